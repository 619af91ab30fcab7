/**
 * Request rate by the generic cell rate algorithm (ITU-T I.371): exact, one number of state. Pure.
 *
 * `tat` is the theoretical arrival time of the next request, ms of the epoch. A burst passes at once, then one request
 * every 60 s / requestsPerMinute.
 */
import type { RateLimit, RateReply } from "./protocol.ts";

const MINUTE_MS = 60_000;

export function take(tat: number, limit: RateLimit, now: number): { tat: number; reply: RateReply } {
  const everyMs = MINUTE_MS / limit.requestsPerMinute;
  const toleranceMs = everyMs * (limit.burst - 1);
  // A lowered limit or a clock that stepped back must not lock a tenant out for longer than a full burst takes.
  const due = Math.min(Math.max(tat, now), now + toleranceMs + everyMs);
  const earlyMs = due - now - toleranceMs;
  // Half a microsecond absorbs what floating point adds over many requests.
  if (earlyMs > 0.0005) {
    return { tat: due, reply: { ok: false, limit: limit.burst, remaining: 0, resetMs: due - now, retryAfterMs: earlyMs } };
  }
  const next = due + everyMs;
  const remaining = Math.max(0, Math.floor((toleranceMs - (next - now)) / everyMs + 1 + 1e-9));
  return { tat: next, reply: { ok: true, limit: limit.burst, remaining, resetMs: next - now } };
}
