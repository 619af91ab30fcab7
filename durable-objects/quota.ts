/**
 * What a tenant is charged by calendar month (UTC): taken at admission, given back when nothing came of it. Pure.
 *
 * Always: no month's counts go beyond the quota that held at each charge; whole numbers throughout. A month is that of
 * the admission, so that a clock which goes back over a month's border finds the counts that it left there.
 */
import type { Counts, Quota } from "./tenant-protocol.ts";

/** Counts by month, `YYYY-MM`, the one charged last at the end. */
export type Months = ReadonlyMap<string, Counts>;

/** Months kept: what was admitted in the last one may still be given back, and a clock may be wrong. */
const MONTHS_MAX = 3;

export const NO_MONTHS: Months = new Map();
const NOTHING: Counts = { results: 0, costMilli: 0 };

export const monthOf = (now: number): string => new Date(now).toISOString().slice(0, 7);

/** When the next month begins, ms of the epoch. */
export function monthEnd(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/** Which part of the quota has no room for what is asked, and how much it allows in all; in whole cost units. */
export type Over = { over: "results" | "cost"; quota: number };

/** The months with what is asked in them; or what of it would be more than the quota leaves. */
export function charge(months: Months, asked: Counts, quota: Quota, now: number): Months | Over {
  const { results, costMilli } = months.get(monthOf(now)) ?? NOTHING;
  const next = { results: results + asked.results, costMilli: costMilli + asked.costMilli };
  // Who asks for none of it is not refused for it, though a quota may have been lowered below what was used.
  if (asked.results > 0 && quota.results !== null && next.results > quota.results)
    return { over: "results", quota: quota.results };
  if (asked.costMilli > 0 && quota.costMilli !== null && next.costMilli > quota.costMilli)
    return { over: "cost", quota: quota.costMilli / 1000 };
  return withMonth(months, monthOf(now), next);
}

/** What was charged in a month and did not come to be; of a month that is not kept any more nothing is left to mend. */
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
