/** A model for the tests of waiting-room.ts: who is in line, and how often each tenant was served. */
import type { Entry, Priority } from "../../durable-objects/pool-protocol.ts";

const RANKS: Priority[] = ["high", "normal", "low"];

export function entryOf(attempt: string, tenant: string, more: Partial<Entry> = {}): Entry {
  const limits = { weight: 1, concurrent: 6, waiting: 1_000_000 };
  const asked = {
    request: "",
    priority: "normal" as const,
    arrivedAt: 0,
    deadlineAt: null,
    fingerprint: null,
    avoid: [],
  };
  return { attempt, tenant, ...limits, ...asked, again: false, job: false, version: 1, ...more };
}

const rank = ({ priority }: Entry) => RANKS.indexOf(priority);

export class RoomModel {
  /** In order of entering. */
  waiters: Entry[] = [];
  readonly capped = new Set<string>();
  readonly weights: Record<string, number>;
  /** How often each of two tenants was served while both were continuously eligible, by their names. */
  readonly #served = new Map<string, Map<string, number>>();

  constructor(weights: Record<string, number>) {
    this.weights = weights;
  }

  enter(entry: Entry): void {
    if (!this.waiters.some(({ attempt }) => attempt === entry.attempt)) this.waiters.push(entry);
  }

  leave(attempt: string): boolean {
    const before = this.waiters.length;
    this.waiters = this.waiters.filter((waiter) => waiter.attempt !== attempt);
    this.#forgetIdle();
    return this.waiters.length < before;
  }

  cap(tenant: string, capped: boolean): void {
    if (capped) this.capped.add(tenant);
    else this.capped.delete(tenant);
    this.#forgetIdle();
  }

  /** A tenant's line: by priority, then arrival time, then order of entering. */
  line(tenant: string): string[] {
    const own = this.waiters.filter((waiter) => waiter.tenant === tenant);
    return own.toSorted((a, b) => rank(a) - rank(b) || a.arrivedAt - b.arrivedAt).map(({ attempt }) => attempt);
  }

  /** Tenants that may be served: they have a request in line and are below their cap. */
  eligible(): string[] {
    return [...new Set(this.waiters.map(({ tenant }) => tenant))].filter((tenant) => !this.capped.has(tenant));
  }

  /**
   * Records a grant. Returns the largest difference between two waiting tenants, as a share of what fairness allows.
   */
  grant(attempt: string): number {
    const tenant = this.waiters.find((waiter) => waiter.attempt === attempt)?.tenant ?? "";
    let apart = 0;
    for (const other of this.eligible()) {
      if (other === tenant) continue;
      const served = this.#pair(tenant, other);
      served.set(tenant, (served.get(tenant) ?? 0) + 1);
      const share = (name: string) => (served.get(name) ?? 0) / this.#weight(name);
      const allowed = 1 / this.#weight(tenant) + 1 / this.#weight(other);
      apart = Math.max(apart, Math.abs(share(tenant) - share(other)) / allowed);
    }
    this.leave(attempt);
    return apart;
  }

  #weight(tenant: string): number {
    return this.weights[tenant] ?? 1;
  }

  #pair(one: string, other: string): Map<string, number> {
    const key = [one, other].toSorted().join(" ");
    const served = this.#served.get(key) ?? new Map<string, number>();
    this.#served.set(key, served);
    return served;
  }

  /** A tenant with an empty line or at its cap was not continuously eligible. */
  #forgetIdle(): void {
    const eligible = new Set(this.eligible());
    for (const key of this.#served.keys())
      if (!key.split(" ").every((tenant) => eligible.has(tenant))) this.#served.delete(key);
  }
}
