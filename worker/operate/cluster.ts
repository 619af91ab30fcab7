/** Computes the cluster status from the configuration and from what the objects report. Pure. */
import { z } from "zod";
import type { CardReport, CardStatus } from "../../durable-objects/card-protocol.ts";
import type { PoolStatus } from "../../durable-objects/pool-protocol.ts";
import type { CardRow, ListingRow } from "../db/queries.ts";

export const ClusterStatus = z
  .object({
    status: z.enum(["healthy", "degraded", "down"]).meta({
      description:
        "healthy: every card takes work, or there are no cards; degraded: some do not; down: a service has cards and none takes work.",
    }),
    cluster: z.string(),
    timestamp: z.string().meta({ format: "date-time", description: "When these numbers were read." }),
    total_capacity: z
      .int()
      .meta({ description: "Slots of all cards, each card counted once; disabled cards are not counted." }),
    servers: z.int(),
    gpus_per_server: z.int().meta({ description: "Largest number of GPUs in one server." }),
    concurrent_per_gpu: z.int().meta({ description: "Largest number of slots of one card." }),
    in_use: z.int().meta({ description: "Leased and draining slots." }),
    queued: z.int(),
    services: z.array(
      z.object({
        id: z.string(),
        capacity: z.int(),
        in_use: z.int(),
        queued: z.int(),
        cards: z.int(),
        healthy_cards: z.int().meta({ description: "Cards that take work for this service." }),
      }),
    ),
  })
  .meta({ id: "ClusterStatus" });
export type ClusterStatus = z.infer<typeof ClusterStatus>;

export interface Park {
  services: string[];
  /** Cards that at least one service lists. */
  cards: CardRow[];
  listings: ListingRow[];
}

const NAME = "portico";

export function clusterStatus(
  park: Park,
  cardStatuses: ReadonlyMap<string, CardStatus>,
  poolStatuses: ReadonlyMap<string, PoolStatus>,
  now: number,
): ClusterStatus {
  const reports = latestReports(cardStatuses, poolStatuses);
  const counted = park.cards.filter((card) => card.state !== "disabled");
  const services = park.services.map((id) => {
    const listed = new Set(
      park.listings.filter((listing) => listing.serviceId === id).map((listing) => listing.cardId),
    );
    const cards = counted.filter((card) => listed.has(card.id));
    const pool = poolStatuses.get(id);
    // No request gets through a pool that does not answer, so none of its cards counts as healthy.
    const healthy = pool === undefined ? [] : cards.filter((card) => takesWork(card, reports.get(card.id), id));
    return {
      id,
      capacity: sum(cards.map((card) => card.slots)),
      in_use: sum(cards.map((card) => reports.get(card.id)?.held.filter((held) => held.service === id).length ?? 0)),
      queued: pool?.queued ?? 0,
      cards: cards.length,
      healthy_cards: healthy.length,
      down: listed.size > 0 && healthy.length === 0,
      degraded: healthy.length < cards.length,
    };
  });
  const perServer = Map.groupBy(counted, serverOf);
  return {
    status: statusOf(counted.length, services),
    cluster: NAME,
    timestamp: new Date(now).toISOString(),
    total_capacity: sum(counted.map((card) => card.slots)),
    servers: perServer.size,
    gpus_per_server: Math.max(0, ...[...perServer.values()].map((cards) => cards.length)),
    concurrent_per_gpu: Math.max(0, ...counted.map((card) => card.slots)),
    in_use: sum(counted.map((card) => reports.get(card.id)?.held.length ?? 0)),
    queued: sum(services.map((service) => service.queued)),
    services: services.map(({ id, capacity, in_use, queued, cards, healthy_cards }) => ({
      id,
      capacity,
      in_use,
      queued,
      cards,
      healthy_cards,
    })),
  };
}

function statusOf(cards: number, services: { down: boolean; degraded: boolean }[]): ClusterStatus["status"] {
  if (cards === 0) return "healthy";
  if (services.some((service) => service.down)) return "down";
  return services.some((service) => service.degraded) ? "degraded" : "healthy";
}

/** A card without any report is not known to take work. */
function takesWork(card: CardRow, report: CardReport | undefined, service: string): boolean {
  return card.state === "active" && report !== undefined && (report.gates[service]?.state ?? "closed") === "closed";
}

/** A card without a server name counts as a server of its own; the prefix keeps card ids and server names apart. */
function serverOf(card: CardRow): string {
  return card.server === null ? `card/${card.id}` : `server/${card.server}`;
}

/** The newest report of each card: its own, or the last one that a pool received. */
function latestReports(
  cards: ReadonlyMap<string, CardStatus>,
  pools: ReadonlyMap<string, PoolStatus>,
): Map<string, CardReport> {
  const latest = new Map([...cards].map(([id, status]) => [id, status.report]));
  for (const report of [...pools.values()].flatMap((pool) => pool.reports)) {
    const known = latest.get(report.card);
    if (known === undefined || isLater(report, known)) latest.set(report.card, report);
  }
  return latest;
}

function isLater(a: CardReport, b: CardReport): boolean {
  return a.incarnation > b.incarnation || (a.incarnation === b.incarnation && a.seq > b.seq);
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
