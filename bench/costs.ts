/** What a request or a job uses of the platform, and what a million of them cost. Pure. */
import { align } from "./table.ts";

/**
 * The D1 rows of a result and its stored answer, including those of primary keys and other indexes; see
 * worker/db/schema.ts.
 */
export const ROWS_OF_A_RESULT = 5 + 4;

/** Uses of bindings, by the names in `X-Counted`. */
export type Uses = Readonly<Record<string, number>>;

export interface CostRow {
  title: string;
  uses: Uses;
  /** Rows written to D1, including index rows. */
  rows: number;
}

/** Dollars per million of each, at the list prices of autumn 2026 beyond what a plan includes. */
const PRICES: Readonly<Record<string, number>> = {
  request: 0.3,
  workflows: 0.3,
  objects: 0.15,
  object_rows: 1,
  r2_reads: 0.36,
  r2_writes: 4.5,
  d1_rows: 1,
};

/**
 * Dollars for a million, each started by one request. Does not include row reads ($0.001 per million), CPU time,
 * storage, and the duration that objects are awake.
 */
function dollars({ uses, rows }: CostRow): number {
  const counts: Uses = { request: 1, ...uses, d1_rows: rows };
  return Object.entries(PRICES).reduce((sum, [what, price]) => sum + (counts[what] ?? 0) * price, 0);
}

const COUNTED = ["objects", "object_rows", "workflows", "r2_reads", "r2_writes", "d1_reads", "d1_writes"];

/** `what`: what one unit is. */
export function costTable(what: string, costs: readonly CostRow[]): string {
  const lines = costs.map((row) => [
    row.title,
    ...COUNTED.map((name) => (row.uses[name] ?? 0).toFixed(2)),
    row.rows.toFixed(2),
    dollars(row).toFixed(2),
  ]);
  return align([
    [`one ${what} uses`, ...COUNTED.map((name) => name.replace("_", " ")), "d1 rows", "$ a million"],
    ...lines,
  ]);
}

/** The uses of each of `times` units, from two counts. */
export function usesOfEach(before: Uses, after: Uses, times: number): Uses {
  return Object.fromEntries(Object.entries(after).map(([use, count]) => [use, (count - (before[use] ?? 0)) / times]));
}

export function usesText(uses: Uses): string {
  return Object.entries(uses)
    .map(([use, count]) => `${use} ${count}`)
    .join(", ");
}

/** The counts since the start, as reported by the counting Worker (`workers/counted.ts`). */
export async function used(url: string): Promise<Uses> {
  const counts: Uses = JSON.parse((await fetch(`${url}/health`)).headers.get("x-counted") ?? "");
  return counts;
}
