/** Results of the running month, counted in UTC: taken at admission, given back when nothing came of it. Pure. */

export interface Used {
  /** `YYYY-MM`. */
  month: string;
  results: number;
}

export const UNUSED: Used = { month: "", results: 0 };

export const monthOf = (now: number): string => new Date(now).toISOString().slice(0, 7);

/** When the next month begins, ms of the epoch. */
export function monthEnd(now: number): number {
  const date = new Date(now);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
}

/** The count with these results in it; null when they are more than the quota leaves. */
export function charge(used: Used, results: number, quota: number | null, now: number): Used | null {
  const month = monthOf(now);
  const next = { month, results: (used.month === month ? used.results : 0) + results };
  return quota !== null && next.results > quota ? null : next;
}

/** Results that were charged in `month` and did not come to be; another month's count is left alone. */
export function restore(used: Used, results: number, month: string): Used {
  return used.month === month ? { month, results: Math.max(0, used.results - results) } : used;
}
