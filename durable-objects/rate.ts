/**
 * Request rate by the generic cell rate algorithm (ITU-T I.371) as a leaky bucket: exact, two numbers of state. Pure.
 *
 * Every request adds 60 s / requestsPerMinute to the level, which falls with time; a request passes while the level
 * leaves room for it within a full burst. The level is kept apart from the clock's large numbers, so that a million
 * requests a minute still count one by one.
 */
import type { RateLimit, RateReply } from "./protocol.ts";

const MINUTE_MS = 60_000;
/** Of one request's share: what floating point adds over many requests. */
const ROUNDING = 1e-6;

export interface Bucket {
  /** When the level was right, ms of the epoch. */
  at: number;
  /** Time that it takes to empty, ms. */
  level: number;
}

export const EMPTY: Bucket = { at: 0, level: 0 };

/** What one request adds to the level, ms. */
export function costOf(limit: RateLimit): number {
  return MINUTE_MS / limit.requestsPerMinute;
}

/** A token that was taken for nothing. */
export function giveBack(bucket: Bucket, cost: number): Bucket {
  return { at: bucket.at, level: Math.max(0, bucket.level - cost) };
}

/** Takes one token if there is one. A clock that steps back lets no time pass. */
export function take(bucket: Bucket, limit: RateLimit, now: number): { bucket: Bucket; reply: RateReply } {
  const everyMs = costOf(limit);
  const fullMs = everyMs * limit.burst;
  // A lowered limit must not lock a tenant out for longer than its full burst takes.
  const level = Math.min(fullMs, Math.max(0, bucket.level - Math.max(0, now - bucket.at)));
  const overMs = level + everyMs - fullMs;
  if (overMs > everyMs * ROUNDING) {
    return { bucket: { at: now, level }, reply: { ok: false, limit: limit.burst, remaining: 0, resetMs: level, retryAfterMs: overMs } };
  }
  const next = level + everyMs;
  const remaining = Math.max(0, Math.floor((fullMs - next) / everyMs + ROUNDING));
  return { bucket: { at: now, level: next }, reply: { ok: true, limit: limit.burst, remaining, resetMs: next } };
}
