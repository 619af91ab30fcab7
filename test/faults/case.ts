/**
 * A case of the fault suite: an injected fault, the expected figures, and the observed ones. All figures are taken
 * before the first wrong one fails the test, and go to the table (table.ts) with the test. There are two kinds of
 * figures. What must hold on any machine (counts at the origin, errors, statuses) is compared with the expected
 * figure. What depends on the machine's speed is reported, and checked against a floor that noise does not reach.
 */
import { expect, test } from "vitest";

/** One row of the table, without its outcome, which is the test's own state. */
export interface Row {
  /** The number of the case; some have parts. */
  number: string;
  injection: string;
  expected: string;
  seen: string[];
  missed: string[];
  /** Number of speed figures that missed the expected value. */
  short: number;
}

interface Bounds {
  least?: number;
  most?: number;
  floor?: number;
  ceiling?: number;
  digits?: number;
}

declare module "vitest" {
  interface TaskMeta {
    fault?: Row;
  }
}

export class Seen {
  readonly #row: Row;

  constructor(row: Row) {
    this.#row = row;
  }

  /** A figure and whether it is correct. */
  figure(what: string, value: string | number, holds: boolean): void {
    this.#row.seen.push(`${what} ${value}`);
    if (!holds) this.#row.missed.push(`${what} ${value}`);
  }

  /** A figure that must have exactly this value. */
  exactly(what: string, value: number, expected = 0): void {
    this.figure(what, value, value === expected);
  }

  /**
   * A figure that depends on the machine's speed. `least` and `most` are the expected bounds; a miss is only shown as
   * short. `floor` and `ceiling` hold even on a busy machine, and a miss fails the case.
   */
  measured(what: string, value: number, bounds: Bounds): void {
    const { least = -Infinity, most = Infinity, floor = -Infinity, ceiling = Infinity, digits = 3 } = bounds;
    const short = value >= least && value <= most ? "" : "SHORT of the expected; ";
    const held = Number.isFinite(floor) ? `floor ${floor}` : `ceiling ${ceiling}`;
    this.figure(what, `${value.toFixed(digits)} (${short}${held})`, value >= floor && value <= ceiling);
    if (short !== "") this.#row.short += 1;
  }

  note(text: string): void {
    this.#row.seen.push(text);
  }
}

interface Case {
  number: string;
  injection: string;
  expected: string;
  /** Longest time that the case may take, in ms. */
  limitMs?: number;
}

export function fault({ limitMs = 60_000, ...given }: Case, run: (seen: Seen) => Promise<void>): void {
  test(`${given.number}: ${given.injection}`, { timeout: limitMs }, async ({ task }) => {
    const row: Row = { ...given, seen: [], missed: [], short: 0 };
    task.meta.fault = row;
    await run(new Seen(row));
    expect(row.missed).toEqual([]);
  });
}
