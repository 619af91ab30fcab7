/** What a request, or a job, uses of the platform, and what a million of them cost. Pure. */
import { align } from "./table.ts";

/** Uses of bindings, as `X-Counted` names them. */
/** A result and its stored answer with their primary keys' and other indexes' rows, as worker/db/schema.ts has them. */
export const ROWS_OF_A_RESULT = 5 + 4;

export type Uses = Readonly<Record<string, number>>;

export interface CostRow {
  title: string;
  uses: Uses;
  /** Rows of D1 that are written, those of indexes among them. */
  rows: number;
}

/** Dollars for a million of each, as listed in autumn 2026 and beyond what a plan includes. */
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
 * Dollars for a million, each asked for by one request. Reads of rows ($0.001 for a million), processor time, storage
 * and the time that objects are awake are not in it.
 */
function dollars({ uses, rows }: CostRow): number {
  const counts: Uses = { request: 1, ...uses, d1_rows: rows };
  return Object.entries(PRICES).reduce((sum, [what, price]) => sum + (counts[what] ?? 0) * price, 0);
}

const COUNTED = ["objects", "object_rows", "workflows", "r2_reads", "r2_writes", "d1_reads", "d1_writes"];

/** `what`: what one of them is. */
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

/** The uses of each of so many, between two counts. */
export function usesOfEach(before: Uses, after: Uses, times: number): Uses {
  return Object.fromEntries(Object.entries(after).map(([use, count]) => [use, (count - (before[use] ?? 0)) / times]));
}

export function usesText(uses: Uses): string {
  return Object.entries(uses)
    .map(([use, count]) => `${use} ${count}`)
    .join(", ");
}

/** What there has been since the start, as the counted Worker (`workers/counted.ts`) says. */
export async function used(url: string): Promise<Uses> {
  const counts: Uses = JSON.parse((await fetch(`${url}/health`)).headers.get("x-counted") ?? "");
  return counts;
}
