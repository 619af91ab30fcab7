/**
 * Rate limiting by the generic cell rate algorithm (ITU-T I.371), as a leaky bucket: exact, with two numbers of state.
 * Pure.
 *
 * Every request adds 60,000 drops, and `requestsPerMinute` drops leak out per millisecond. A request passes if the
 * bucket, which holds a full burst, has room for it. All numbers are integers, so even a million requests are counted
 * exactly.
 */
import type { RateLeft, RateLimit, RateReply } from "./tenant-protocol.ts";

/** Drops per request: at one request per minute, one drop leaks out per millisecond. */
export const REQUEST_DROPS = 60_000;

export interface Bucket {
  /** When `level` was computed, ms since the epoch. */
  at: number;
  /** Drops in the bucket. */
  level: number;
}

export const EMPTY: Bucket = { at: 0, level: 0 };

/** Gives back drops, when a request does not cost its token after all. */
export function giveBack(bucket: Bucket, drops: number): Bucket {
  return { at: bucket.at, level: Math.max(0, bucket.level - drops) };
}

/**
 * Takes one token if there is one. While the clock steps back, no time passes. Callers must store the bucket of a
 * refusal as well: it records the step, and time passes from there.
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

/** How many requests pass now, and when the bucket will be empty, so that a full burst passes again. */
export function leftIn(bucket: Bucket, limit: RateLimit, now: number): RateLeft {
  const level = leaked(bucket, limit, now);
  const remaining = Math.floor((REQUEST_DROPS * limit.burst - level) / REQUEST_DROPS);
  return { limit: limit.burst, remaining, resetMs: Math.ceil(level / limit.requestsPerMinute) };
}

/** Drops in the bucket now. At most a full burst, so that lowering the limit locks a tenant out no longer than that. */
function leaked({ at, level }: Bucket, { burst, requestsPerMinute }: RateLimit, now: number): number {
  const gone = Math.max(0, now - at) * requestsPerMinute;
  return Math.min(REQUEST_DROPS * burst, Math.max(0, level - gone));
}
