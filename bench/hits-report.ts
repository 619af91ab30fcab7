/**
 * The results of the hits benchmark: hits per second compared with the bare platform, and the cost of a million. Pure.
 */
import { type CostRow, costTable } from "./costs.ts";
import { percentile } from "./figures.ts";
import type { Machine } from "./machine.ts";
import { align } from "./table.ts";

export interface HitRow {
  title: string;
  bytes: number;
  perSecond: number;
  /** Relative to the bare Worker with the same number of bytes. */
  share: number;
  p50: number;
  p99: number;
}

export interface Results {
  name: string;
  at: string;
  machine: Machine;
  connections: number;
  windowMs: number;
  rows: HitRow[];
  costs: CostRow[];
  leftOut: { title: string; why: string }[];
}

/** What one contender's connections measured; ms of each answer. */
export interface Heard {
  title: string;
  bytes: number;
  ms: number[];
  seconds: number;
}

export function hitRow({ title, bytes, ms, seconds }: Heard, bare: Heard): HitRow {
  const sorted = ms.toSorted((a, b) => a - b);
  const at = (share: number) => percentile(sorted, share) ?? Number.NaN;
  const perSecond = ms.length / seconds;
  return { title, bytes, perSecond, share: perSecond / (bare.ms.length / bare.seconds), p50: at(0.5), p99: at(0.99) };
}

export function table({ rows, costs, leftOut, connections }: Results): string {
  const speeds = rows.map(({ title, bytes, perSecond, share, p50, p99 }) => [
    title,
    String(bytes),
    perSecond.toFixed(0),
    share.toFixed(2),
    p50.toFixed(2),
    p99.toFixed(2),
  ]);
  return [
    align([[`hits, ${connections} connections`, "bytes", "hits/s", "of bare", "p50 ms", "p99 ms"], ...speeds]),
    costTable("request", costs),
    ...leftOut.map(({ title, why }) => `${title}: ${why}`),
  ].join("\n\n");
}
