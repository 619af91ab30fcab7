/**
 * When a webhook is sent again, and when it is given up. Pure; `now` and chance are arguments.
 *
 *   pending -> delivered   2xx
 *   pending -> disabled    410: the receiver wants no more of it
 *   pending -> failed      nothing to send any more, or the last try was in vain
 *   pending -> pending     anything else, redirects included
 */
import type { DeliveryState, Sent } from "./courier-protocol.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** After each failed try: a little more than a day in all. */
const DELAYS_MS = [5_000, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 10 * HOUR_MS];
/** Share by which a delay is shortened or stretched at random. */
const JITTER = 0.1;
/** A receiver's Retry-After beyond this counts as this. */
const RETRY_AFTER_MS_MAX = HOUR_MS;

export const TRIES_MAX = DELAYS_MS.length + 1;

export type Verdict = { state: "pending"; nextAt: number } | { state: Exclude<DeliveryState, "pending">; nextAt: null };

/** What becomes of a delivery after so many tries, of which this was the last. */
export function after({ status, retryAfterMs, again }: Sent, tries: number, now: number, random: number): Verdict {
  if (status !== null && status >= 200 && status < 300) return { state: "delivered", nextAt: null };
  if (status === 410) return { state: "disabled", nextAt: null };
  const delayMs = DELAYS_MS[tries - 1];
  if (!again || delayMs === undefined) return { state: "failed", nextAt: null };
  const jittered = Math.round(delayMs * (1 - JITTER + 2 * JITTER * random));
  return { state: "pending", nextAt: now + Math.max(jittered, Math.min(retryAfterMs ?? 0, RETRY_AFTER_MS_MAX)) };
}
