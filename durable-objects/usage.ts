/**
 * What a tenant used: what one request adds, and how additions are summed. Pure.
 *
 * A request counts once, when it ends, on the UTC day of its admission. GPU time counts whatever the outcome; cost
 * counts only if the request is charged.
 */
import { DAY_MS, dayOf, type Spent, type UsageOf, type Use } from "./tenant-protocol.ts";

/** How long usage is kept, days. */
const USAGE_DAYS = 400;

export const NO_USE: Use = { requests: 0, hits: 0, results: 0, bytes: 0, gpuMs: 0, costMilli: 0, refusals: {} };

/** The first day that is kept. */
export const firstKept = (now: number): string => dayOf(now - USAGE_DAYS * DAY_MS);

/** When a day's usage expires, ms since the epoch. */
export const keptUntil = (day: string): number => Date.parse(day) + (USAGE_DAYS + 1) * DAY_MS;

/** What an ended request adds. `asked`: the results it was admitted for. `costMilli`: what it is charged. */
export function useOf({ gpuMs, bytes, results, reason }: Spent, asked: number, costMilli: number): Use {
  const made = results ?? asked;
  return {
    ...NO_USE,
    requests: 1,
    results: made,
    bytes,
    gpuMs,
    costMilli,
    refusals: reason === null ? {} : { [reason]: 1 },
  };
}

export function sum(a: Use, b: Use): Use {
  const refusals = { ...a.refusals };
  for (const [reason, count] of Object.entries(b.refusals)) refusals[reason] = (refusals[reason] ?? 0) + count;
  return {
    requests: a.requests + b.requests,
    hits: a.hits + b.hits,
    results: a.results + b.results,
    bytes: a.bytes + b.bytes,
    gpuMs: a.gpuMs + b.gpuMs,
    costMilli: a.costMilli + b.costMilli,
    refusals,
  };
}

/** The map key of a usage row. */
export const nameOf = ({ day, service, key }: UsageOf): string => [day, service, key].join(" ");
