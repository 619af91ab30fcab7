/** A ticket's place among those of its tenant: by priority, then arrival, then order of entry. Pure. */
import type { Entry, Priority } from "./pool-protocol.ts";

export type Place = [rank: number, arrivedAt: number, seq: number];

/** Lower goes first. Backlogs store these numbers. */
export const RANK: Record<Priority, number> = { high: 0, normal: 1, low: 2 };

/** A job counts as having arrived this much later, so that requests with a waiting caller go first. */
const CALL_AHEAD_MS = 30_000;

export function placeOf({ priority, arrivedAt, job }: Entry, seq: number): Place {
  return [RANK[priority], arrivedAt + (job ? CALL_AHEAD_MS : 0), seq];
}

export function byPlace(a: Place, b: Place): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
