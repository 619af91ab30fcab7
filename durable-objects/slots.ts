/**
 * The slots of one card: who holds them, by which right, until when. Pure; `now` is an argument.
 *
 * A slot's right is a lease. A lease is
 *   leased     its holder runs a request and renews
 *   draining   its holder is gone or the end was unclean; the GPU may still work, the slot is not free
 *   ended      forgotten but for its number, so that a repeated claim or release is recognised
 *
 * Always: leased + draining never grow beyond the slots by a claim; numbers only grow; an attempt gets one number in
 * its life. claim: -> leased. release: leased -> ended | draining. vanish and reap: leased -> draining. renew, and a
 * repeated claim: bring a draining lease back whose holder turns out to live, as its slot was never given away. hear
 * and reap: draining -> ended. Methods return the leases they changed, for the shell to keep.
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
 * A lease found this long past its expiry points to a stopped process or a clock that was set, not to a dead holder;
 * a draining slot found this long past its end, to a GPU that may not have had its time.
 */
const STOPPED_MS = 15_000;
/** Reports that must arrive after an unclean end before reports may free its slot. */
const REPORTS_MIN = 2;
/** Ended attempts remembered, so that a repeated call is recognised. */
export const ENDED_MAX = 500;
/** Stands for the number of an attempt that never gets one. */
const NEVER = 0;

export interface Lease extends Omit<LeaseRecord, "card" | "state"> {
  state: "leased" | "draining" | "ended";
  /** Longest time that the GPU may work on after an unclean end, ms. */
  drainMaxMs: number;
  /** The holder went without a word: a renewal may bring the lease back. */
  vanished: boolean;
  /** Reports heard since the unclean end. */
  reports: number;
  /** Its clock jumped: it had its one extra renewal interval, or drains its whole time once more. */
  graced: boolean;
}

export type ClaimOutcome = { lease: Lease; fresh: boolean; changed: Lease[] } | { no: "full" | "ended" };

export class Slots {
  /** Leased and draining, by number, oldest first. */
  readonly #held = new Map<number, Lease>();
  /** Attempts that have ended, by attempt id, oldest first. */
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

  /** A slot for this attempt, or no. The same attempt gets the same lease again. */
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

  /** One more lease life, for the holder alone. */
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

  /** The holder's last word. A clean end frees the slot, also a draining one: the end was seen. */
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

  /** The holder never heard a yes, and gives the attempt up: nothing was sent for it, and it never gets a slot again. */
  unclaim(attempt: string): Lease[] {
    const lease = this.#ofAttempt(attempt);
    // Who released it has begun, and has said how it ended.
    if (lease?.state === "draining" && !lease.vanished) return [];
    if (lease !== undefined) return [this.#end(lease)];
    // The claim may come after this.
    if (!this.#ended.has(attempt)) this.#ended.set(attempt, NEVER);
    return [];
  }

  /** The holder is gone without a word: what it started may still run, at the longest from its last renewal. */
  vanish(number: number, now: number): Lease[] {
    const lease = this.#held.get(number);
    if (lease === undefined || lease.state !== "leased") return [];
    return [this.#drain(lease, lease.renewedAt, now, true)];
  }

  /** Drains what nobody renewed and ends what has drained its time. */
  reap(now: number): { changed: Lease[]; reaped: number; drained: number } {
    const changed = new Set<Lease>();
    let reaped = 0;
    let drained = 0;
    for (const lease of this.held) {
      if (lease.state === "leased") {
        // A clock that stepped back must not make a lease longer than its life.
        if (lease.expiresAt > now + LEASE_MS)
          changed.add(Object.assign(lease, { expiresAt: now + LEASE_MS, renewedAt: now }));
        if (lease.expiresAt > now) continue;
        if (now - lease.expiresAt > STOPPED_MS && !lease.graced) {
          changed.add(Object.assign(lease, { expiresAt: now + LEASE_RENEW_MS, graced: true }));
          continue;
        }
        // By a clock that jumped nobody knows how long ago the last renewal was.
        changed.add(this.#drain(lease, lease.graced ? now : lease.renewedAt, now, true));
        // Its holder may be about to renew.
        if (lease.graced) lease.drainUntil = Math.max(lease.drainUntil ?? 0, now + LEASE_RENEW_MS);
        reaped++;
      } else if (now - (lease.drainUntil ?? now) > STOPPED_MS && !lease.graced) {
        changed.add(Object.assign(lease, { drainUntil: now + lease.drainMaxMs, graced: true }));
      }
      if (lease.state !== "draining") continue;
      const until = lease.drainUntil ?? now;
      // The same for a draining slot: never longer than its longest from now.
      if (until > now + lease.drainMaxMs) changed.add(Object.assign(lease, { drainUntil: now + lease.drainMaxMs }));
      if ((lease.drainUntil ?? now) > now) continue;
      changed.add(this.#end(lease));
      drained++;
    }
    return { changed: [...changed], reaped, drained };
  }

  /**
   * A report of how many requests the card (or one service's origin on it) runs right now. From the second report on
   * that arrives after an unclean end, draining slots never outnumber it. Leased slots do not count against it: their
   * request may not have reached the GPU yet.
   */
  hear(running: number, service: string | null): Lease[] {
    const draining = this.held.filter((l) => l.state === "draining" && (service === null || l.service === service));
    for (const lease of draining) lease.reports++;
    const surplus = Math.max(0, draining.length - running);
    const known = draining.filter((lease) => lease.reports >= REPORTS_MIN);
    const ended = known.slice(0, surplus).map((lease) => this.#end(lease));
    return [...new Set([...draining, ...ended])];
  }

  /** When `reap` next has something to do; null with nothing held. */
  nextAt(): number | null {
    const times = this.held.map((l) => (l.state === "leased" ? l.expiresAt : (l.drainUntil ?? 0)));
    return times.length === 0 ? null : Math.min(...times);
  }

  /** Attempts that may be forgotten, oldest first; the highest number always stays, so that numbers only grow. */
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
      // What ought to be over by now is over now, and no sign of a clock that jumped.
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
