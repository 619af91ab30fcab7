/**
 * The slots of one card: who holds each, and until when. Pure; `now` is an argument.
 *
 * A slot is held under a lease, in one of these states:
 *   leased     its holder runs a request and renews
 *   draining   its holder is gone or the end was unclean; the GPU may still be working, so the slot is not free
 *   ended      only the number is kept, so that repeated claims and releases are recognized
 *
 * Invariants: a claim never takes leased + draining above the number of slots; numbers only grow; an attempt gets at
 * most one number. Methods return the leases they changed, so that the caller can store them.
 *
 * Transitions:
 *   claim               -> leased
 *   release             leased -> ended | draining, draining -> ended
 *   vanish, reap        leased -> draining
 *   renew, claim again  draining -> leased, if the holder turns out to be alive: its slot was never given away
 *   applyReport, reap   draining -> ended
 *   unclaim             leased -> ended, draining -> ended if the holder vanished
 */
import {
  LEASE_MS,
  LEASE_RENEW_MS,
  type Attempt,
  type Ending,
  type LeaseRecord,
  type ReleaseReply,
  type RenewReply,
} from "./card-protocol.ts";

/**
 * A lease this long past its expiry indicates a stopped process or a changed clock rather than a dead holder. Likewise,
 * a draining slot this long past its end may not have had its full time.
 */
const STOPPED_MS = 15_000;
/** Number of reports that must arrive after an unclean end before reports can free the slot. */
const REPORTS_MIN = 2;
/** Number of ended attempts remembered, so that repeated calls are recognized. */
export const ENDED_MAX = 500;
/** The number recorded for an attempt that will never get a lease. */
const NEVER = 0;

export interface Lease extends Omit<LeaseRecord, "card" | "state"> {
  state: "leased" | "draining" | "ended";
  /** How long the GPU may keep working after an unclean end, ms. */
  drainMaxMs: number;
  /** The holder disappeared without a release; a renewal may revive the lease. */
  vanished: boolean;
  /** Number of reports since the unclean end. */
  reports: number;
  /** The clock jumped: it got its one extra renewal interval, or is draining for its full time once more. */
  graced: boolean;
}

export type ClaimOutcome = { lease: Lease; fresh: boolean; changed: Lease[] } | { no: "full" | "ended" };

export class Slots {
  /** Leased and draining slots by number, oldest first. */
  readonly #held = new Map<number, Lease>();
  /** Ended attempts by id, oldest first. */
  readonly #ended = new Map<string, number>();
  #lastNumber: number;

  constructor(kept: Lease[] = []) {
    this.#lastNumber = 0;
    for (const lease of kept.toSorted((a, b) => a.number - b.number)) {
      this.#lastNumber = lease.number;
      if (lease.state === "ended") this.#ended.set(lease.attempt, lease.number);
      else this.#held.set(lease.number, { ...lease });
    }
  }

  get lastNumber(): number {
    return this.#lastNumber;
  }

  get held(): Lease[] {
    return [...this.#held.values()];
  }

  /** Grants a slot if one is free. A repeated attempt gets the same lease. */
  claim(attempt: Attempt, slots: number, drainMaxMs: number, now: number): ClaimOutcome {
    const before = this.#ofAttempt(attempt.attempt);
    if (before?.state === "leased") return { lease: before, fresh: false, changed: [] };
    if (before !== undefined) {
      const { reply, changed } = this.renew(before.number, before.attempt, now);
      return reply.renewed ? { lease: before, fresh: false, changed } : { no: "ended" };
    }
    if (this.#ended.has(attempt.attempt)) return { no: "ended" };
    if (this.#held.size >= slots) return { no: "full" };
    const { attempt: id, request, tenant, service, fingerprint, address } = attempt;
    const lease: Lease = {
      number: ++this.#lastNumber,
      attempt: id,
      request,
      tenant,
      service,
      fingerprint,
      ...(address === undefined ? {} : { address }),
      state: "leased",
      claimedAt: now,
      renewedAt: now,
      expiresAt: now + LEASE_MS,
      drainingSince: null,
      drainUntil: null,
      drainMaxMs,
      vanished: false,
      reports: 0,
      graced: false,
    };
    this.#held.set(lease.number, lease);
    return { lease, fresh: true, changed: [lease] };
  }

  /** Extends the lease by one lifetime, for its holder only. */
  renew(number: number, attempt: string, now: number): { reply: RenewReply; changed: Lease[] } {
    const lease = this.#held.get(number);
    if (lease === undefined || lease.attempt !== attempt) {
      return { reply: { renewed: false, why: lease === undefined ? "unknown" : "stale" }, changed: [] };
    }
    if (lease.state === "draining" && !lease.vanished) return { reply: { renewed: false, why: "stale" }, changed: [] };
    Object.assign(lease, {
      state: "leased",
      renewedAt: now,
      expiresAt: now + LEASE_MS,
      drainingSince: null,
      drainUntil: null,
      vanished: false,
      reports: 0,
      graced: false,
    });
    return { reply: { renewed: true, expiresAt: lease.expiresAt }, changed: [lease] };
  }

  /** The holder reports the end. A clean end frees the slot, even a draining one. */
  release(number: number, attempt: string, ending: Ending, now: number): { reply: ReleaseReply; changed: Lease[] } {
    const lease = this.#held.get(number);
    if (lease === undefined) {
      const why = this.#ended.get(attempt) === number ? "late" : "unknown";
      return { reply: { released: false, why }, changed: [] };
    }
    if (lease.attempt !== attempt) return { reply: { released: false, why: "stale" }, changed: [] };
    if (ending.clean) return { reply: { released: true }, changed: [this.#end(lease)] };
    if (lease.state === "draining" && !lease.vanished) return { reply: { released: true }, changed: [] };
    return { reply: { released: true }, changed: [this.#drain(lease, now, now, false)] };
  }

  /** The holder never got the reply to its claim and gave up before sending. The attempt never gets a slot again. */
  unclaim(attempt: string): Lease[] {
    const lease = this.#ofAttempt(attempt);
    // If the holder has released it, it did run, and has reported how it ended.
    if (lease?.state === "draining" && !lease.vanished) return [];
    if (lease !== undefined) return [this.#end(lease)];
    // The claim may still arrive after this call.
    if (!this.#ended.has(attempt)) this.#ended.set(attempt, NEVER);
    return [];
  }

  /** The holder is gone without a release. Its request may run on, for at most `drainMaxMs` after the last renewal. */
  vanish(number: number, now: number): Lease[] {
    const lease = this.#held.get(number);
    if (lease === undefined || lease.state !== "leased") return [];
    return [this.#drain(lease, lease.renewedAt, now, true)];
  }

  /** Moves expired leases to draining, and ends those whose drain time is over. */
  reap(now: number): { changed: Lease[]; reaped: number; drained: number } {
    const changed = new Set<Lease>();
    let reaped = 0;
    let drained = 0;
    for (const lease of this.held) {
      if (lease.state === "leased") {
        // A clock that stepped back must not extend a lease beyond its lifetime.
        if (lease.expiresAt > now + LEASE_MS)
          changed.add(Object.assign(lease, { expiresAt: now + LEASE_MS, renewedAt: now }));
        if (lease.expiresAt > now) continue;
        if (now - lease.expiresAt > STOPPED_MS && !lease.graced) {
          changed.add(Object.assign(lease, { expiresAt: now + LEASE_RENEW_MS, graced: true }));
          continue;
        }
        // After a clock jump the time since the last renewal is unknown.
        changed.add(this.#drain(lease, lease.graced ? now : lease.renewedAt, now, true));
        // Its holder may be about to renew.
        if (lease.graced) lease.drainUntil = Math.max(lease.drainUntil ?? 0, now + LEASE_RENEW_MS);
        reaped++;
      } else if (now - (lease.drainUntil ?? now) > STOPPED_MS && !lease.graced) {
        changed.add(Object.assign(lease, { drainUntil: now + lease.drainMaxMs, graced: true }));
      }
      if (lease.state !== "draining") continue;
      const until = lease.drainUntil ?? now;
      // Likewise, a slot never drains longer than its maximum from now.
      if (until > now + lease.drainMaxMs) changed.add(Object.assign(lease, { drainUntil: now + lease.drainMaxMs }));
      if ((lease.drainUntil ?? now) > now) continue;
      changed.add(this.#end(lease));
      drained++;
    }
    return { changed: [...changed], reaped, drained };
  }

  /**
   * Applies a report of how many requests the card (or one service's origin on it) is running. From the second report
   * after an unclean end on, draining slots never outnumber the reported count. Leased slots are not counted against
   * it, because their requests may not have reached the GPU yet.
   */
  applyReport(running: number, service: string | null): Lease[] {
    const draining = this.held.filter((l) => l.state === "draining" && (service === null || l.service === service));
    for (const lease of draining) lease.reports++;
    const surplus = Math.max(0, draining.length - running);
    const known = draining.filter((lease) => lease.reports >= REPORTS_MIN);
    const ended = known.slice(0, surplus).map((lease) => this.#end(lease));
    return [...new Set([...draining, ...ended])];
  }

  /** When `reap` next has something to do; null if no slot is held. */
  nextAt(): number | null {
    const times = this.held.map((l) => (l.state === "leased" ? l.expiresAt : (l.drainUntil ?? 0)));
    return times.length === 0 ? null : Math.min(...times);
  }

  /** Forgets the oldest ended attempts; returns their numbers. The highest one stays, so that numbers only grow. */
  forget(): number[] {
    const forgotten: number[] = [];
    for (const [attempt, number] of this.#ended) {
      if (this.#ended.size <= ENDED_MAX) break;
      if (number === this.#lastNumber) continue;
      this.#ended.delete(attempt);
      forgotten.push(number);
    }
    return forgotten;
  }

  #ofAttempt(attempt: string): Lease | undefined {
    for (const lease of this.#held.values()) if (lease.attempt === attempt) return lease;
    return undefined;
  }

  #drain(lease: Lease, from: number, now: number, vanished: boolean): Lease {
    return Object.assign(lease, {
      state: "draining",
      drainingSince: now,
      // Clamped to now, so that a drain time already over ends now and does not look like a clock jump.
      drainUntil: Math.max(now, from + lease.drainMaxMs),
      vanished,
      reports: 0,
    });
  }

  #end(lease: Lease): Lease {
    this.#held.delete(lease.number);
    this.#ended.set(lease.attempt, lease.number);
    return Object.assign(lease, { state: "ended" });
  }
}
