/** The output of a run: one JSON file with everything measured, and the plots drawn from it. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Case, Lengths, Row } from "./cases.ts";
import type { Machine } from "./machine.ts";
import type { OldLoadRow } from "./old-load.ts";
import type { OneCaller } from "./one-caller.ts";
import { ROOT } from "../local/root.ts";

export const RESULTS = join(ROOT, "bench/results");

export interface Results {
  name: string;
  at: string;
  machine: Machine;
  lengths: Lengths;
  rounds: number;
  contenders: { name: string; title: string }[];
  leftOut: { title: string; why: string }[];
  cases: Case[];
  rows: Row[];
  oneCaller: OneCaller[];
  oldLoad: OldLoadRow[];
}

/** Writes NAME.json and NAME-PLOT.svg for every plot. Returns the files' paths. */
export async function keep(name: string, results: unknown, plots: Readonly<Record<string, string>>): Promise<string[]> {
  await mkdir(RESULTS, { recursive: true });
  const files = Object.entries(plots).map(([plot, svg]) => [`${name}-${plot}.svg`, svg] as const);
  const all = [[`${name}.json`, `${JSON.stringify(results, rounded, 2)}\n`] as const, ...files];
  await Promise.all(all.map(([file, content]) => writeFile(join(RESULTS, file), content)));
  return all.map(([file]) => `bench/results/${file}`);
}

export async function load<T>(name: string): Promise<T> {
  const results: T = JSON.parse(await readFile(join(RESULTS, `${name}.json`), "utf8"));
  return results;
}

/** No figure here is accurate to more than four decimal places. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 10_000) / 10_000 : value;
}
