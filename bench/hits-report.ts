/** What hits came to: how many a second beside the bare platform's, and what a million of them costs. Pure. */
import { percentile } from "./figures.ts";
import type { Machine } from "./machine.ts";
import { align } from "./table.ts";

/** Uses of bindings by one request, as `X-Counted` names them. */
export type Uses = Readonly<Record<string, number>>;

export interface HitRow {
  title: string;
  bytes: number;
  perSecond: number;
  /** Of the bare Worker's with as many bytes. */
  share: number;
  p50: number;
  p99: number;
}

export interface CostRow {
  title: string;
  uses: Uses;
  /** Rows of D1 that are written, those of indexes among them. */
  rows: number;
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

/** What one contender's connections saw; ms of each answer. */
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

/** Dollars for a million of each, as listed in autumn 2026 and beyond what a plan includes. */
const PRICES: Readonly<Record<string, number>> = {
  request: 0.3,
  objects: 0.15,
  r2_reads: 0.36,
  r2_writes: 4.5,
  d1_rows: 1,
};

/** Dollars for a million requests; reads of D1 ($0.001 for a million rows), processor time, storage and the time that objects are awake are not in it. */
function dollars({ uses, rows }: CostRow): number {
  const counts: Uses = { ...uses, request: 1, d1_rows: rows };
  return Object.entries(PRICES).reduce((sum, [what, price]) => sum + (counts[what] ?? 0) * price, 0);
}

const COUNTED = ["objects", "r2_reads", "r2_writes", "d1_reads", "d1_writes"];

export function table({ rows, costs, leftOut, connections }: Results): string {
  const speeds = rows.map(({ title, bytes, perSecond, share, p50, p99 }) => [
    title,
    String(bytes),
    perSecond.toFixed(0),
    share.toFixed(2),
    p50.toFixed(2),
    p99.toFixed(2),
  ]);
  const prices = costs.map((row) => [
    row.title,
    ...COUNTED.map((name) => (row.uses[name] ?? 0).toFixed(2)),
    row.rows.toFixed(2),
    dollars(row).toFixed(2),
  ]);
  return [
    align([[`hits, ${connections} connections`, "bytes", "hits/s", "of bare", "p50 ms", "p99 ms"], ...speeds]),
    align([
      ["one request uses", ...COUNTED.map((name) => name.replace("_", " ")), "d1 rows", "$ a million"],
      ...prices,
    ]),
    ...leftOut.map(({ title, why }) => `${title}: ${why}`),
  ].join("\n\n");
}
