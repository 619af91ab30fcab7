/** Renders the cluster's status as a few lines of text. Pure. */
import { styleText } from "node:util";
import { type Card, healthOf } from "./cards.ts";
import { aligned, cell, clean, shortTime, table } from "./table.ts";

const BAR_LENGTH = 24;
const CARD_BAR_LENGTH_MAX = 8;
const COLOURS = { healthy: "green", degraded: "yellow", down: "red" } as const;

export interface ClusterStatus {
  status: keyof typeof COLOURS;
  cluster: string;
  timestamp: string;
  total_capacity: number;
  servers: number;
  in_use: number;
  queued: number;
  services: {
    id: string;
    capacity: number;
    in_use: number;
    queued: number;
    cards: number;
    healthy_cards: number;
  }[];
}

/** `cards` is null where the caller may not see them. */
export function renderStatus(status: ClusterStatus, cards: Card[] | null): string {
  const services = status.services.map(({ id, capacity, in_use, queued, cards: all, healthy_cards }) => [
    clean(id),
    styleText(in_use < capacity ? "green" : "yellow", bar(in_use, capacity)),
    `${in_use}/${capacity} in use`,
    `${queued} queued`,
    `${healthy_cards}/${all} cards take work`,
  ]);
  return [
    summary(status),
    "",
    services.length === 0 ? "There are no services." : aligned(services),
    "",
    cards === null ? "Cards are for operators: set PORTICO_TOKEN." : cardTable(cards),
  ].join("\n");
}

/** The status on one line, for a log. */
export function statusLine({ timestamp, status, in_use, total_capacity, queued, services }: ClusterStatus): string {
  const each = services.map((service) => `${service.id} ${service.in_use}/${service.capacity}+${service.queued}`);
  return clean([timestamp, status, `${in_use}/${total_capacity} in use, ${queued} queued:`, ...each].join(" "));
}

/** A bar that is empty only for zero and full only for everything. */
export function bar(inUse: number, capacity: number, length = BAR_LENGTH): string {
  const share = capacity === 0 ? 0 : Math.min(1, inUse / capacity);
  const full = share === 0 ? 0 : share === 1 ? length : Math.min(length - 1, Math.max(1, Math.round(share * length)));
  return "█".repeat(full) + "░".repeat(length - full);
}

function summary({ status, cluster, timestamp, total_capacity, servers, in_use, queued }: ClusterStatus): string {
  const state = styleText(["bold", COLOURS[status] ?? "red"], clean(status));
  const numbers = `${in_use}/${total_capacity} slots in use on ${servers} servers, ${queued} queued`;
  return `${state}  ${clean(cluster)}  ${numbers}  ${cell(shortTime(timestamp))}`;
}

function cardTable(cards: Card[]): string {
  if (cards.length === 0) return "There are no cards.";
  return table(cards, {
    card: (row) => row.id,
    server: (row) => row.server,
    state: (row) => row.state,
    "in use": ({ live, slots }) =>
      `${bar(live?.in_use ?? 0, slots, Math.min(slots, CARD_BAR_LENGTH_MAX))} ${live?.in_use ?? "?"}/${slots}`,
    health: healthOf,
  });
}
