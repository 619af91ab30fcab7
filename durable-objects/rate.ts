/**
 * Request rate by the generic cell rate algorithm (ITU-T I.371) as a leaky bucket: exact, two numbers of state. Pure.
 *
 * Every request fills the bucket by 60,000 drops, and `requestsPerMinute` drops leak out each millisecond; a request
 * passes while a full burst leaves room for it. Whole numbers throughout: a million requests count one by one.
 */
import type { RateLimit, RateReply } from "./protocol.ts";

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
  const { burst, requestsPerMinute } = limit;
  const full = REQUEST_DROPS * burst;
  const leaked = Math.max(0, now - bucket.at) * requestsPerMinute;
  // A lowered limit must not lock a tenant out for longer than its full burst takes.
  const level = Math.min(full, Math.max(0, bucket.level - leaked));
  const next = level + REQUEST_DROPS;
  if (next > full) {
    const kept = { at: now, level };
    const retryAfterMs = Math.ceil((next - full) / requestsPerMinute);
    return {
      bucket: kept,
      reply: { ok: false, limit: burst, remaining: 0, resetMs: resetMs(kept, limit), retryAfterMs },
    };
  }
  const taken = { at: now, level: next };
  const remaining = Math.floor((full - next) / REQUEST_DROPS);
  return { bucket: taken, reply: { ok: true, limit: burst, remaining, resetMs: resetMs(taken, limit) } };
}

/** How long the bucket takes to empty: then a full burst passes again. */
export function resetMs(bucket: Bucket, limit: RateLimit): number {
  return Math.ceil(bucket.level / limit.requestsPerMinute);
}
