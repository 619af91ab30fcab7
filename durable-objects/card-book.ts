/**
 * The Card's decisions: its leases (slots.ts), its health per service (card-health.ts), its counters, and its replies
 * to claims. Pure except for the health store; `now` is an argument. Methods return the leases they changed, so that
 * the Card can store them.
 *
 * Invariant: claims = done + failed + orphaned + runs in progress. A run is counted by its first outcome: released,
 * given up, or its holder vanished (`orphaned`, until the holder comes back or reports the end after all).
 */
import { CardHealth, type HealthStore } from "./card-health.ts";
import type {
  Attempt,
  CardConfig,
  CardCounters,
  CardReport,
  ClaimNo,
  Ending,
  Held,
  Listing,
  ReleaseReply,
  RenewReply,
} from "./card-protocol.ts";
import { type Lease, Slots } from "./slots.ts";

export interface Granted {
  lease: Lease;
  listing: Listing;
  changed: Lease[];
}

export class CardBook {
  readonly counters: CardCounters;
  config: CardConfig | null;
  readonly #slots: Slots;
  readonly #health: CardHealth;

  constructor(config: CardConfig | null, leases: Lease[], counters: CardCounters, health: HealthStore) {
    this.config = config;
    this.counters = counters;
    this.#slots = new Slots(leases);
    this.#health = new CardHealth(health, (service) => this.listing(service)?.breaker);
  }

  /** Leased and draining, oldest first. */
  get leases(): Lease[] {
    return this.#slots.held;
  }

  listing(service: string): Listing | undefined {
    return this.config?.listings.find((listing) => listing.service === service);
  }

  /** Grants or refuses a lease. Call `reap` first. A repeated attempt gets the same lease. */
  claim(attempt: Attempt, now: number): Granted | ClaimNo {
    const listing = this.listing(attempt.service);
    if (this.config === null || listing === undefined) return this.#no({ no: "unlisted" });
    const held = this.#ofAttempt(attempt.attempt);
    const no = held === undefined ? this.#shut(attempt, now) : null;
    if (no !== null) return this.#no(no);
    const wasVanished = held?.vanished === true;
    const outcome = this.#slots.claim(attempt, this.config.slots, listing.drain.maxMs, now);
    if ("no" in outcome) return this.#no(outcome);
    const { lease, fresh, changed } = outcome;
    if (fresh) {
      this.counters.claims++;
      this.#health.begun(attempt, now);
    } else if (wasVanished) this.counters.orphaned--;
    return { lease, listing, changed };
  }

  renew(number: number, attempt: string, now: number): { reply: RenewReply; changed: Lease[] } {
    const wasVanished = this.#ofAttempt(attempt)?.vanished === true;
    const { reply, changed } = this.#slots.renew(number, attempt, now);
    if (!reply.renewed) this.counters.stale++;
    else if (wasVanished) this.counters.orphaned--;
    return { reply, changed };
  }

  release(number: number, attempt: string, ending: Ending, now: number): { reply: ReleaseReply; changed: Lease[] } {
    const lease = this.leases.find((one) => one.number === number && one.attempt === attempt);
    // Only the first outcome is counted. After an unclean end another release may still free the slot, no more.
    const isFirst = lease !== undefined && isOpen(lease);
    const wasVanished = lease?.vanished === true;
    const { reply, changed } = this.#slots.release(number, attempt, ending, now);
    if (isFirst) {
      this.counters[ending.health === "ok" ? "done" : "failed"]++;
      if (wasVanished) this.counters.orphaned--;
      this.#health.judge(lease.service, attempt, ending, now);
    } else if (!reply.released) this.counters[reply.why === "late" ? "late" : "stale"]++;
    return { reply, changed };
  }

  /** Ends an attempt whose claim reply was lost and whose holder gave it up before sending anything. */
  unclaim(attempt: string): Lease[] {
    const before = this.#ofAttempt(attempt);
    const isFirst = before !== undefined && isOpen(before);
    const wasVanished = before?.vanished === true;
    const changed = this.#slots.unclaim(attempt);
    if (isFirst) {
      this.counters.failed++;
      if (wasVanished) this.counters.orphaned--;
      this.#health.abandoned(before);
    }
    return changed;
  }

  /** The holder disappeared without releasing its lease. */
  vanish(number: number, now: number): Lease[] {
    const changed = this.#slots.vanish(number, now);
    this.counters.orphaned += changed.length;
    for (const lease of changed) this.#health.abandoned(lease);
    return changed;
  }

  /** Moves expired leases to draining, and ends those whose drain time is over. */
  reap(now: number): Lease[] {
    const { changed, reaped, drained } = this.#slots.reap(now);
    this.counters.reaped += reaped;
    this.counters.orphaned += reaped;
    this.counters.drained += drained;
    for (const lease of changed) if (lease.state !== "leased") this.#health.abandoned(lease);
    return changed;
  }

  /** Applies a report of how many requests the card, or one service's origin on it, is running. */
  applyReport(running: number, service: string | null): Lease[] {
    const changed = this.#slots.applyReport(running, service);
    this.counters.drained += changed.filter((lease) => lease.state === "ended").length;
    return changed;
  }

  /** When `reap` next has something to do; null if no slot is held. */
  nextAt(): number | null {
    return this.#slots.nextAt();
  }

  /** Returns the numbers of ended leases that may be deleted. */
  forget(): number[] {
    return this.#slots.forget();
  }

  /** The listings of services that have draining slots. */
  draining(): Listing[] {
    const services = new Set(this.leases.filter((lease) => lease.state === "draining").map((lease) => lease.service));
    return (this.config?.listings ?? []).filter((listing) => services.has(listing.service));
  }

  report(incarnation: number, seq: number, now: number): CardReport {
    const { config } = this;
    const services = (config?.listings ?? []).map((listing) => listing.service);
    return {
      card: config?.card ?? "",
      incarnation,
      seq,
      version: config?.version ?? 0,
      slots: config?.slots ?? 0,
      state: config?.state ?? "disabled",
      lastNumber: this.#slots.lastNumber,
      held: this.leases.map(shown),
      gates: Object.fromEntries(services.map((service) => [service, this.#health.gate(service, now)])),
    };
  }

  // Private

  #ofAttempt(attempt: string): Lease | undefined {
    return this.leases.find((lease) => lease.attempt === attempt);
  }

  /** The reason why the card takes no new work for the service, or null. */
  #shut(attempt: Attempt, now: number): ClaimNo | null {
    if (this.config?.state !== "active") return { no: "withdrawn" };
    const running = this.leases.filter((l) => l.service === attempt.service && l.state === "leased").length;
    return this.#health.shut(attempt, running, now);
  }

  #no(no: ClaimNo): ClaimNo {
    this.counters.refused++;
    return no;
  }
}

/** Whether the outcome of the run is still to be counted; `orphaned` is provisional. */
function isOpen(lease: Lease): boolean {
  return lease.state === "leased" || lease.vanished;
}

/** The public view of a held slot. */
export function shown(lease: Lease): Held {
  const { number, attempt, request, tenant, service, fingerprint, address, state, claimedAt } = lease;
  const seen = state === "draining" ? "draining" : "leased";
  const from = address === undefined ? {} : { address };
  return { number, attempt, request, tenant, service, fingerprint, ...from, state: seen, claimedAt };
}
