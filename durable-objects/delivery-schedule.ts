/**
 * When a webhook is retried and when it is given up. Pure; `now` and `random` are arguments.
 *
 *   pending -> delivered   2xx
 *   pending -> disabled    410: the receiver wants no more events
 *   pending -> failed      nothing left to send, or the last try failed
 *   pending -> pending     anything else, redirects included
 */
import type { DeliveryState, SendResult } from "./courier-protocol.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Delay after each failed try: a little more than a day in all. */
const DELAYS_MS = [5_000, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 10 * HOUR_MS];
/** Random variation of a delay, as a share. */
const JITTER = 0.1;
/** A longer Retry-After counts as this. */
const RETRY_AFTER_MS_MAX = HOUR_MS;

export const TRIES_MAX = DELAYS_MS.length + 1;

export type Verdict = { state: "pending"; nextAt: number } | { state: Exclude<DeliveryState, "pending">; nextAt: null };

/** The next state of a delivery after its latest try, which was number `tries`. */
export function after(
  { status, retryAfterMs, again }: SendResult,
  tries: number,
  now: number,
  random: number,
): Verdict {
  if (status !== null && status >= 200 && status < 300) return { state: "delivered", nextAt: null };
  if (status === 410) return { state: "disabled", nextAt: null };
  const delayMs = DELAYS_MS[tries - 1];
  if (!again || delayMs === undefined) return { state: "failed", nextAt: null };
  const jittered = Math.round(delayMs * (1 - JITTER + 2 * JITTER * random));
  return { state: "pending", nextAt: now + Math.max(jittered, Math.min(retryAfterMs ?? 0, RETRY_AFTER_MS_MAX)) };
}
