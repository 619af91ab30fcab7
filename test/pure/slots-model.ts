/**
 * A simpler model of a card's slots for the tests of slots.ts: a list of leases and what each call does to it, with a
 * clock that only goes forward and an alarm that is never late.
 */
import { LEASE_MS, type Attempt, type Ending, type ReleaseReply } from "../../durable-objects/card-protocol.ts";
import type { Lease, Slots } from "../../durable-objects/slots.ts";

export const CLEAN: Ending = { clean: true, health: "ok", reason: null };
export const UNCLEAN: Ending = { clean: false, health: null, reason: null };
/** Reports count from this one on after an unclean end. */
const REPORTS_HEEDED = 2;

export function attempt(name: string, service = "portrait"): Attempt {
  return { attempt: name, request: `request of ${name}`, tenant: "tenant", service, fingerprint: null };
}

/** The visible state of the held leases. */
export function held(slots: Slots): string[] {
  return slots.held.map((lease) => `${lease.number} ${lease.attempt} ${lease.state}`);
}

/** Lets time pass with an alarm that is always in time. Returns what it changed. */
export function lapse(slots: Slots, from: number, ms: number): Lease[] {
  const changed: Lease[] = [];
  for (let at = slots.nextAt(); at !== null && at <= from + ms; at = slots.nextAt()) {
    changed.push(...slots.reap(Math.max(from, at)).changed);
  }
  changed.push(...slots.reap(from + ms).changed);
  return changed;
}

interface Expected {
  number: number;
  attempt: string;
  service: string;
  drainMaxMs: number;
  state: "leased" | "draining" | "ended";
  /** Its holder may come back, because it never reported its end. */
  silent: boolean;
  renewedAt: number;
  /** When a draining slot is free at the latest. */
  freeAt: number;
  reports: number;
}

export class SlotsModel {
  now = 1_000_000;
  readonly slots: number;
  readonly leases: Expected[] = [];

  constructor(slots: number) {
    this.slots = slots;
  }

  get held(): Expected[] {
    return this.leases.filter((lease) => lease.state !== "ended");
  }

  shown(): string[] {
    return this.held.map((lease) => `${lease.number} ${lease.attempt} ${lease.state}`);
  }

  claim({ attempt: name, service }: Attempt, drainMaxMs: number): number | "full" | "ended" {
    const before = this.leases.find((lease) => lease.attempt === name);
    if (before !== undefined) {
      if (before.state === "ended" || (before.state === "draining" && !before.silent)) return "ended";
      if (before.state === "draining") this.#live(before);
      return before.number;
    }
    if (this.held.length >= this.slots) return "full";
    const number = this.leases.length + 1;
    const renewedAt = this.now;
    this.leases.push({
      number,
      attempt: name,
      service,
      drainMaxMs,
      state: "leased",
      silent: false,
      renewedAt,
      freeAt: 0,
      reports: 0,
    });
    return number;
  }

  renew(number: number, name: string): boolean {
    const lease = this.held.find((l) => l.number === number && l.attempt === name);
    if (lease === undefined || (lease.state === "draining" && !lease.silent)) return false;
    this.#live(lease);
    return true;
  }

  release(number: number, name: string, clean: boolean): ReleaseReply {
    const lease = this.leases.find((l) => l.number === number);
    if (lease === undefined) return { released: false, why: "unknown" };
    if (lease.state === "ended") return { released: false, why: lease.attempt === name ? "late" : "unknown" };
    if (lease.attempt !== name) return { released: false, why: "stale" };
    if (clean) lease.state = "ended";
    else if (lease.state === "leased" || lease.silent) this.#drain(lease, this.now, false);
    return { released: true };
  }

  vanish(number: number): void {
    const lease = this.held.find((l) => l.number === number);
    if (lease?.state === "leased") this.#drain(lease, lease.renewedAt, true);
  }

  hear(running: number, service: string | null): void {
    const draining = this.held.filter((l) => l.state === "draining" && (service === null || l.service === service));
    for (const lease of draining) lease.reports += 1;
    let surplus = draining.length - running;
    for (const lease of draining) {
      if (surplus <= 0) return;
      if (lease.reports < REPORTS_HEEDED) continue;
      lease.state = "ended";
      surplus -= 1;
    }
  }

  lapse(ms: number): void {
    this.now += ms;
    for (const lease of this.held) {
      if (lease.state === "leased" && lease.renewedAt + LEASE_MS <= this.now) this.#drain(lease, lease.renewedAt, true);
      if (lease.state === "draining" && lease.freeAt <= this.now) lease.state = "ended";
    }
  }

  #live(lease: Expected): void {
    Object.assign(lease, { state: "leased", silent: false, renewedAt: this.now, reports: 0 });
  }

  #drain(lease: Expected, from: number, silent: boolean): void {
    Object.assign(lease, { state: "draining", silent, freeAt: from + lease.drainMaxMs, reports: 0 });
  }
}
