/**
 * Which generations of a tenant's webhook secret sign. Only the generation numbers are stored; the secret is derived
 * from them where it is used. Pure; `now` is an argument.
 */

/** How long a replaced generation still signs beside the new one, so that receivers can switch. */
const OVERLAP_MS = 86_400_000;
/** Maximum number of generations that sign at once; rotating more often ends the oldest early. */
const SIGNING_MAX = 4;

export interface Generations {
  latest: number;
  /** When each earlier generation was replaced, newest first. */
  replacedAt: number[];
}

export const FIRST: Generations = { latest: 1, replacedAt: [] };

export function rotated({ latest, replacedAt }: Generations, now: number): Generations {
  return { latest: latest + 1, replacedAt: [now, ...replacedAt].slice(0, SIGNING_MAX - 1) };
}

/** The generations that sign now, newest first. */
export function signing({ latest, replacedAt }: Generations, now: number): number[] {
  const earlier = replacedAt.flatMap((at, i) => (at + OVERLAP_MS > now ? [latest - 1 - i] : []));
  return [latest, ...earlier];
}
