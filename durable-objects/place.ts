/** Where a ticket stands among its tenant's own: by priority, then arrival, then coming. Pure. */
import type { Entry, Priority } from "./pool-protocol.ts";

export type Place = [rank: number, arrivedAt: number, seq: number];

const RANK: Record<Priority, number> = { high: 0, normal: 1, low: 2 };

/** A job counts as come later by this: who holds the line goes before it for so long. */
const CALL_AHEAD_MS = 30_000;

export function placeOf({ priority, arrivedAt, job }: Entry, seq: number): Place {
  return [RANK[priority], arrivedAt + (job ? CALL_AHEAD_MS : 0), seq];
}

export function byPlace(a: Place, b: Place): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
