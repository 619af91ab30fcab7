/**
 * What a tenant used: what one request adds to it, and how additions come together. Pure.
 *
 * A request counts once, when it ends, on the day (UTC) of its admission. What its GPU ran is counted whatever came of
 * it; cost only where the request is charged for it.
 */
import type { Spent, UsageOf, Use } from "./tenant-protocol.ts";

/** How long usage is kept. */
const USAGE_DAYS = 400;
const DAY_MS = 86_400_000;

export const NO_USE: Use = { requests: 0, hits: 0, results: 0, bytes: 0, gpuMs: 0, costMilli: 0, refusals: {} };

export const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** The first day that is kept. */
export const firstKept = (now: number): string => dayOf(now - USAGE_DAYS * DAY_MS);

/** When a day's usage is no longer kept, ms of the epoch. */
export const keptUntil = (day: string): number => Date.parse(day) + (USAGE_DAYS + 1) * DAY_MS;

/** What an ended request adds; `asked`: the results that it was admitted for; `costMilli`: what it is charged. */
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

/** One name for what is counted together. */
export const nameOf = ({ day, service, key }: UsageOf): string => [day, service, key].join(" ");
