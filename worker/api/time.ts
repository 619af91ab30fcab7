/** Times in responses and headers. */
import { z } from "zod";

export const Time = z.string().meta({ format: "date-time", description: "ISO 8601, UTC." });

/** `ms`: since the Unix epoch. */
export const iso = (ms: number): string => new Date(ms).toISOString();
export const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));

/** Reads `Retry-After` (RFC 9110 10.2.3): seconds or a date, in ms. Null: anything else, or in the past. */
export function retryAfterIn(headers: Headers, now: number): number | null {
  const text = headers.get("retry-after") ?? "";
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return ms > 0 ? ms : null;
}
