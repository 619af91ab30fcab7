/**
 * The park: all cards of all servers in one process, with one workshop and one control API. Tests use it directly;
 * `main.ts` is its command line.
 */
import { Card, UnknownCard } from "./card.ts";
import { nowMs } from "./clock.ts";
import { openControl } from "./control.ts";
import { ParkTally, sumOf } from "./counts.ts";
import type { Counts, Run, Sums } from "./counts.ts";
import { faultSchema } from "./faults.ts";
import type { Fault, FaultInput } from "./faults.ts";
import type { Sensors } from "./gpu.ts";
import type { Head } from "./heads.ts";
import type { Beats } from "./heartbeat.ts";
import { SERVICE_DEFAULTS, serviceSchema } from "./timing.ts";
import type { Service } from "./timing.ts";
import { tokenSchema } from "./tunnel.ts";
import type { ServiceTokenInput } from "./tunnel.ts";
import { Workshop } from "./workshop.ts";

/** Fields that are left out or undefined keep their value. */
export type ServiceChange = { readonly [K in keyof Service]?: Service[K] | undefined };

export interface ParkOptions {
  readonly servers?: number;
  readonly gpus?: number;
  readonly slots?: number;
  readonly service?: ServiceChange;
  readonly token?: ServiceTokenInput;
}

export interface ParkCard {
  readonly card: string;
  readonly server: string;
  readonly gpu: number;
  readonly slots: number;
  readonly origin: string;
}

export interface CardReport extends ParkCard, Sensors {
  readonly counts: Counts;
  readonly fault: Fault | null;
  readonly heartbeats: Beats;
}

export interface ParkCounts extends Sums {
  readonly running: number;
  /** The most that ever ran at one instant on all cards together. */
  readonly highest: number;
  readonly cards: Readonly<Record<string, Counts>>;
}

export interface HeartbeatSettings {
  readonly url: string;
  /** A card without a token sends no heartbeats. */
  readonly tokens: Readonly<Record<string, string>>;
  readonly every_ms?: number | undefined;
  readonly change_ms?: number | undefined;
}

export class Park {
  readonly #cards: ReadonlyMap<string, Card>;
  readonly #tally: ParkTally;
  readonly #workshop = new Workshop();
  #service: Service;
  #control: { readonly url: string; close(): void } | null = null;

  constructor({ servers = 3, gpus = 2, slots = 2, service = {}, token }: ParkOptions) {
    this.#tally = new ParkTally();
    this.#service = SERVICE_DEFAULTS;
    this.setService(service);
    const cards = Array.from({ length: servers * gpus }, (_, i) => {
      const server = `gpu-${String(Math.floor(i / gpus) + 1).padStart(2, "0")}`;
      const gpu = i % gpus;
      return new Card(
        { card: `${server}-${gpu}`, server, gpu, slots },
        this.#tally,
        this.#workshop,
        () => this.#service,
      );
    });
    this.#cards = new Map(cards.map((card) => [card.card, card]));
    if (token) this.setToken(token);
  }

  async open(): Promise<this> {
    await Promise.all([...this.#cards.values()].map((card) => card.listen()));
    this.#control = await openControl(this);
    return this;
  }

  get cards(): readonly ParkCard[] {
    return [...this.#cards.values()].map((card) => ({ ...card.name, origin: card.origin }));
  }

  /** The control API's address. */
  get control(): string {
    if (!this.#control) throw new Error("the park is not open");
    return this.#control.url;
  }

  get service(): Service {
    return this.#service;
  }

  reports(): readonly CardReport[] {
    const now = nowMs();
    return [...this.#cards.values()].map((card) => ({
      ...card.name,
      origin: card.origin,
      ...card.sensors(),
      counts: card.ledger.counts(now),
      fault: card.fault,
      heartbeats: card.heartbeat.beats,
    }));
  }

  counts(): ParkCounts {
    const now = nowMs();
    const cards = Object.fromEntries([...this.#cards].map(([name, card]) => [name, card.ledger.counts(now)]));
    const { running, highest } = this.#tally;
    return { running, highest, ...sumOf(Object.values(cards)), cards };
  }

  runs(card?: string): readonly (Readonly<Run> & { readonly card: string })[] {
    const runs = this.#chosen(card).flatMap(({ card: name, ledger }) =>
      ledger.runs().map((run) => ({ card: name, ...run })),
    );
    return runs.toSorted((a, b) => a.started_at - b.started_at);
  }

  heads(card: string): readonly Head[] {
    return this.#chosen(card).flatMap(({ heads }) => heads.list());
  }

  /** Resolves when the fault is in effect: a refusing socket is closed by then, a healed one open. */
  async setFault(card: string, fault: FaultInput | null): Promise<void> {
    const parsed = fault === null ? null : faultSchema.parse(fault);
    await Promise.all(this.#chosen(card).map((chosen) => chosen.setFault(parsed)));
  }

  /** Removes the fault from one card, or from all. */
  async heal(card?: string): Promise<void> {
    await Promise.all(this.#chosen(card).map((chosen) => chosen.setFault(null)));
  }

  /** Changes the given fields and keeps the others. */
  setService(service: ServiceChange): Service {
    const named = Object.entries(service).filter(([, value]) => value !== undefined);
    this.#service = serviceSchema.parse({ ...this.#service, ...Object.fromEntries(named) });
    return this.#service;
  }

  /** Requires the tunnel's service token on every request; null removes the requirement. */
  setToken(token: ServiceTokenInput | null, card?: string): void {
    const parsed = token === null ? null : tokenSchema.parse(token);
    for (const chosen of this.#chosen(card)) chosen.setToken(parsed);
  }

  /** Starts heartbeats on every card that has a token here, and stops them on all others (null: on all). */
  heartbeat(settings: HeartbeatSettings | null): void {
    for (const [name, { heartbeat }] of this.#cards) {
      const token = settings?.tokens[name];
      if (!settings || token === undefined) heartbeat.set(null);
      else
        heartbeat.set({
          url: settings.url,
          token,
          ...(settings.every_ms === undefined ? {} : { every_ms: settings.every_ms }),
          ...(settings.change_ms === undefined ? {} : { change_ms: settings.change_ms }),
        });
    }
  }

  /** Resets all counts; faults, timing and heartbeats are kept. */
  reset(): void {
    for (const card of this.#cards.values()) card.reset();
    this.#tally.reset();
  }

  async close(): Promise<void> {
    for (const card of this.#cards.values()) card.close();
    this.#control?.close();
    await this.#workshop.close();
  }

  #chosen(card: string | undefined): readonly Card[] {
    if (card === undefined) return [...this.#cards.values()];
    const chosen = this.#cards.get(card);
    if (!chosen) throw new UnknownCard(card);
    return [chosen];
  }
}

/** Creates and opens a park; every card listens when this resolves. */
export function startPark(options: ParkOptions = {}): Promise<Park> {
  return new Park(options).open();
}
