/**
 * Which generations of a tenant's webhook secret sign. Only their numbers are kept: the secret is derived from them where
 * it is used. Pure; `now` is an argument.
 */

/** An earlier generation signs beside the new one for so long, so that receivers can change over. */
const OVERLAP_MS = 86_400_000;
/** Generations that sign at the same time: who rotates more often ends the earliest before its time. */
const SIGNING_MAX = 4;

export interface Generations {
  latest: number;
  /** When the ones before it were replaced, the latest first. */
  replacedAt: number[];
}

export const FIRST: Generations = { latest: 1, replacedAt: [] };

export function rotated({ latest, replacedAt }: Generations, now: number): Generations {
  return { latest: latest + 1, replacedAt: [now, ...replacedAt].slice(0, SIGNING_MAX - 1) };
}

/** Those that sign now, the latest first. */
export function signing({ latest, replacedAt }: Generations, now: number): number[] {
  const earlier = replacedAt.flatMap((at, i) => (at + OVERLAP_MS > now ? [latest - 1 - i] : []));
  return [latest, ...earlier];
}
