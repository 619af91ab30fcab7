/** The results of the keys and limits benchmark as a table. Pure. */
import type { Uses } from "./costs.ts";
import type { Machine } from "./machine.ts";
import { align } from "./table.ts";

export interface AuthRow {
  title: string;
  p50Us: number;
  p95Us: number;
  /** Title of the row that the ratio is relative to; a bare Worker's row names itself. */
  floor: string;
  /** Mean ms by part of `Server-Timing`. */
  stages: Readonly<Record<string, number>>;
  /** Null: not measured on Portico. */
  uses: Uses | null;
  /** Nothing in it is new to the isolate, so it must not read D1. */
  isWarm: boolean;
}

export interface Results {
  name: string;
  at: string;
  machine: Machine;
  rounds: number;
  rows: AuthRow[];
}

const COUNTED = ["d1_reads", "d1_writes", "r2_reads", "r2_writes", "objects", "limits"];
const HEAD = ["a request", "p50 us", "p95 us", "of bare", "auth ms", "limit ms", ...COUNTED];

export function table({ rows }: Results): string {
  const lines = rows.map(({ title, p50Us, p95Us, floor, stages, uses }) => {
    const bare = rows.find((row) => row.title === floor)?.p50Us ?? Number.NaN;
    const times = ["auth", "limit"].map((stage) => stages[stage]?.toFixed(2) ?? "-");
    const counts = COUNTED.map((name) => uses?.[name]?.toFixed(2) ?? "-");
    return [title, p50Us.toFixed(0), p95Us.toFixed(0), `x ${(p50Us / bare).toFixed(2)}`, ...times, ...counts];
  });
  return align([HEAD.map((name) => name.replace("_", " ")), ...lines]);
}

/** Rows that read D1 although nothing in them is new. */
export function brokenOf(rows: readonly AuthRow[]): AuthRow[] {
  return rows.filter(({ isWarm, uses }) => isWarm && uses !== null && uses["d1_reads"] !== 0);
}
