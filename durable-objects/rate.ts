/**
 * Request rate by the generic cell rate algorithm (ITU-T I.371) as a leaky bucket: exact, two numbers of state. Pure.
 *
 * Every request fills the bucket by 60,000 drops, and `requestsPerMinute` drops leak out each millisecond; a request
 * passes while a full burst leaves room for it. Whole numbers throughout: a million requests count one by one.
 */
import type { RateLeft, RateLimit, RateReply } from "./tenant-protocol.ts";

/** Drops of one request: at one request a minute, one leaks out each millisecond. */
export const REQUEST_DROPS = 60_000;

export interface Bucket {
  /** When the level was right, ms of the epoch. */
  at: number;
  /** Drops in it. */
  level: number;
}

export const EMPTY: Bucket = { at: 0, level: 0 };

/** A token that was taken for nothing. */
export function giveBack(bucket: Bucket, drops: number): Bucket {
  return { at: bucket.at, level: Math.max(0, bucket.level - drops) };
}

/**
 * Takes one token if there is one. A clock that steps back lets no time pass. A refusal's bucket is to be kept too:
 * it knows of the step, and time passes from there.
 */
export function take(bucket: Bucket, limit: RateLimit, now: number): { bucket: Bucket; reply: RateReply } {
  const level = leaked(bucket, limit, now);
  const next = level + REQUEST_DROPS;
  const full = REQUEST_DROPS * limit.burst;
  if (next > full) {
    const kept = { at: now, level };
    const retryAfterMs = Math.ceil((next - full) / limit.requestsPerMinute);
    return { bucket: kept, reply: { ok: false, ...leftIn(kept, limit, now), retryAfterMs } };
  }
  const taken = { at: now, level: next };
  return { bucket: taken, reply: { ok: true, ...leftIn(taken, limit, now) } };
}

/** What a bucket lets through now, and how long it takes to empty: then a full burst passes again. */
export function leftIn(bucket: Bucket, limit: RateLimit, now: number): RateLeft {
  const level = leaked(bucket, limit, now);
  const remaining = Math.floor((REQUEST_DROPS * limit.burst - level) / REQUEST_DROPS);
  return { limit: limit.burst, remaining, resetMs: Math.ceil(level / limit.requestsPerMinute) };
}

/** Drops that are in it now; a lowered limit must not lock a tenant out for longer than its full burst takes. */
function leaked({ at, level }: Bucket, { burst, requestsPerMinute }: RateLimit, now: number): number {
  const gone = Math.max(0, now - at) * requestsPerMinute;
  return Math.min(REQUEST_DROPS * burst, Math.max(0, level - gone));
}
