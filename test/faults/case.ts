/**
 * A case of the fault suite: an injection, the figure that is expected of it, and the figures that were seen. All of
 * them are taken before the first that does not hold fails the test, and go to the table (table.ts) with the test.
 *
 * Two kinds of figures: what must hold on any machine (counts at the origin, errors, statuses) is held to the expected
 * figure itself; what depends on the machine's speed is shown as it was, and held to a floor that noise does not reach.
 */
import { expect, test } from "vitest";

/** One line of the table, without whether it held: that is the test's own state. */
export interface Row {
  /** As the cases are numbered; some have parts. */
  number: string;
  injection: string;
  expected: string;
  seen: string[];
  missed: string[];
  /** Figures of the machine's speed that fell short of the expected. */
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

  /** A figure and whether it is as it must be. */
  figure(what: string, value: string | number, holds: boolean): void {
    this.#row.seen.push(`${what} ${value}`);
    if (!holds) this.#row.missed.push(`${what} ${value}`);
  }

  /** A figure that must be this one. */
  exactly(what: string, value: number, expected = 0): void {
    this.figure(what, value, value === expected);
  }

  /**
   * A figure of this machine's speed. `least` and `most` are what is expected, and shown as short where it is missed;
   * `floor` and `ceiling` are what even a busy machine keeps, and held to.
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
  /** Longest time that it may take, ms. */
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
