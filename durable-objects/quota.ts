/**
 * What a tenant is charged per calendar month (UTC): taken at admission, refunded if nothing came of it. Pure.
 *
 * Invariants: a charge never takes a month's counts above the quota in force at that moment; all numbers are integers.
 * The month is that of the admission, so a clock that steps back over a month boundary finds the earlier counts.
 */
import type { Counts, Quota } from "./tenant-protocol.ts";

/** Counts by month (`YYYY-MM`), in the order of their last charge. */
export type Months = ReadonlyMap<string, Counts>;

/** Months kept: requests admitted last month may still be refunded, and the clock may be wrong. */
const MONTHS_MAX = 3;

export const NO_MONTHS: Months = new Map();
const NOTHING: Counts = { results: 0, costMilli: 0 };

export const monthOf = (now: number): string => new Date(now).toISOString().slice(0, 7);

/** When the next month begins, ms since the epoch. */
export function monthEnd(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/** Which part of the quota is exceeded, and that quota; in whole results or cost units. */
export type Over = { over: "results" | "cost"; quota: number };

/** Adds the counts to the month of `now`, or returns which part of the quota they exceed. */
export function charge(months: Months, asked: Counts, quota: Quota, now: number): Months | Over {
  const { results, costMilli } = months.get(monthOf(now)) ?? NOTHING;
  const next = { results: results + asked.results, costMilli: costMilli + asked.costMilli };
  // A request that uses none of a quota passes, even if the quota was lowered below what is already used.
  if (asked.results > 0 && quota.results !== null && next.results > quota.results)
    return { over: "results", quota: quota.results };
  if (asked.costMilli > 0 && quota.costMilli !== null && next.costMilli > quota.costMilli)
    return { over: "cost", quota: quota.costMilli / 1000 };
  return withMonth(months, monthOf(now), next);
}

/** Refunds counts to the month they were charged in; no effect if that month is no longer kept. */
export function restore(months: Months, unmade: Counts, month: string): Months {
  const used = months.get(month);
  if (used === undefined) return months;
  const results = Math.max(0, used.results - unmade.results);
  return new Map(months).set(month, { results, costMilli: Math.max(0, used.costMilli - unmade.costMilli) });
}

function withMonth(months: Months, month: string, counts: Counts): Months {
  const others = [...months].filter(([name]) => name !== month).slice(1 - MONTHS_MAX);
  return new Map([...others, [month, counts]]);
}
