import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { figuresOf, mean, percentile } from "../../bench/figures.ts";
import { busySlot, cardsOf, FROM, runOf, sampleOf, seenOf, UNTIL } from "./seen.ts";

const sorted = fc
  .array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 })
  .map((values) => values.toSorted((a, b) => a - b));
const shares = fc.double({ min: 0, max: 1, noNaN: true, minExcluded: true });
const counts = fc.array(fc.nat({ max: 50 }), { minLength: 1, maxLength: 20 });

const left = (prompt: string, at: number) => seenOf([], { left: new Map([[prompt, at]]) });

function startedAfter(ms: number): [started: number, latestMs: number] {
  const runs = [runOf(FROM + 100 + ms, FROM + 900, { prompt: "gone" })];
  const { startedForNobody, latestForNobodyMs } = figuresOf(left("gone", FROM + 100), cardsOf(runs), 1);
  return [startedForNobody, latestForNobodyMs];
}

const jainOf = (perUser: number[]) =>
  figuresOf(
    seenOf(perUser.flatMap((count, user) => Array.from({ length: count }, () => sampleOf({ user })))),
    cardsOf([]),
    perUser.length,
  ).jain;

describe("percentiles", () => {
  test("are nearest-rank: of 1 to 100 the 95th is 95, and of one value each is that value", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
    expect([0.01, 0.5, 0.95, 0.99, 1].map((share) => percentile(hundred, share))).toEqual([1, 50, 95, 99, 100]);
    expect([percentile([7], 0.01), percentile([7], 1), percentile([], 0.5)]).toEqual([7, 7, null]);
  });

  test("have at least their share of the values at or below them, and less than it strictly below", () => {
    fc.assert(
      fc.property(sorted, shares, (values, share) => {
        const value = percentile(values, share) ?? Number.NaN;
        expect(values).toContain(value);
        expect(values.filter((one) => one <= value).length).toBeGreaterThanOrEqual(share * values.length);
        expect(values.filter((one) => one < value).length).toBeLessThan(share * values.length);
      }),
    );
  });

  test("count only answers with status 200, so that fast refusals do not improve them", () => {
    const refused = Array.from({ length: 99 }, () => sampleOf({ status: 503, ms: 1 }));
    const figures = figuresOf(seenOf([...refused, sampleOf({ ms: 800 })]), cardsOf([]), 1);
    expect(figures).toMatchObject({ p50: 800, p99: 800, errors: 99, errorRate: 0.99, statuses: { 200: 1, 503: 99 } });
  });

  test("a mean of no values is 0", () => {
    expect([mean([]), mean([1, 2, 6])]).toEqual([0, 3]);
  });
});

describe("Jain's index", () => {
  test("is 1 when all get the same, 1/n when one gets everything, and null when nobody gets anything", () => {
    expect(jainOf([3, 3, 3, 3])).toBe(1);
    expect(jainOf([8, 0, 0, 0])).toBe(0.25);
    expect(jainOf([0, 0])).toBeNull();
  });

  test("lies between 1/n and 1, and depends neither on order nor on scale", () => {
    fc.assert(
      fc.property(
        counts.filter((perUser) => perUser.some((count) => count > 0)),
        (perUser) => {
          const index = jainOf(perUser) ?? Number.NaN;
          expect(index).toBeGreaterThanOrEqual(1 / perUser.length - 1e-9);
          expect(index).toBeLessThanOrEqual(1 + 1e-9);
          expect(jainOf(perUser.toReversed())).toBeCloseTo(index, 9);
          expect(jainOf(perUser.map((count) => count * 3))).toBeCloseTo(index, 9);
        },
      ),
    );
  });
});

describe("the limit", () => {
  test("slots that are never idle are fully busy, even if runs extend beyond the window", () => {
    fc.assert(
      fc.property(fc.array(busySlot, { minLength: 1, maxLength: 4 }), (slots) => {
        const figures = figuresOf(seenOf([]), cardsOf(slots.flat(), { slots: slots.length }), 1);
        expect(figures.busy).toBeCloseTo(1, 9);
        expect(figures.shareOfRest).toBeCloseTo(1, 9);
      }),
    );
  });

  test("one answer per run that ended in the window is a share of 1, to within the longest run", () => {
    fc.assert(
      fc.property(busySlot, (runs) => {
        const ended = runs.filter(({ ended_at }) => (ended_at ?? 0) >= FROM && (ended_at ?? 0) <= UNTIL);
        const figures = figuresOf(seenOf(ended.map(() => sampleOf())), cardsOf(runs, { slots: 1 }), 1);
        const longest = Math.max(...runs.map(({ started_at, ended_at }) => (ended_at ?? 0) - started_at));
        expect(Math.abs(figures.share - 1)).toBeLessThanOrEqual(longest / (UNTIL - FROM));
      }),
    );
  });

  test("the mean service time covers runs that completed in the window, edges included, and no failed run", () => {
    const runs = [
      runOf(FROM - 500, FROM),
      runOf(UNTIL - 300, UNTIL),
      runOf(FROM - 9_000, FROM - 1),
      runOf(UNTIL - 9_000, UNTIL + 1),
      runOf(FROM + 100, FROM + 101, { ended: "fault" }),
      runOf(FROM + 100, null),
    ];
    expect(figuresOf(seenOf([]), cardsOf(runs), 1)).toMatchObject({ serviceMs: 400, failedRuns: 1 });
  });

  test("a run outside the window adds nothing, and one that never ended is busy until its end", () => {
    const runs = [runOf(FROM - 900, FROM - 100), runOf(UNTIL + 1, UNTIL + 5), runOf(UNTIL - 4_000, null)];
    expect(figuresOf(seenOf([]), cardsOf(runs, { slots: 1 }), 1).busy).toBeCloseTo(0.4, 9);
  });

  test("the cards' counts of over-admissions and of concurrent runs are passed on unchanged", () => {
    const figures = figuresOf(seenOf([]), cardsOf([], { over: 7, highestOnOne: 5, highest: 17 }), 1);
    expect(figures).toMatchObject({ over: 7, highestOnOne: 5, highest: 17 });
  });
});

describe("ghosts", () => {
  test("a run whose caller left before its end is a ghost, and its time is taken off the limit", () => {
    const runs = [runOf(FROM, UNTIL, { prompt: "gone" }), runOf(FROM, FROM + 5_000, { prompt: "there" })];
    const figures = figuresOf(left("gone", FROM + 100), cardsOf(runs, { slots: 2 }), 1);
    expect(figures).toMatchObject({ ghosts: 1, left: 1, startedForNobody: 0, latestForNobodyMs: 0 });
    expect(figures.shareOfRest).toBeCloseTo(0.5, 9);
    expect(figures.busy).toBeCloseTo(0.75, 9);
  });

  test("a caller that left after the end leaves no ghost", () => {
    const figures = figuresOf(left("done", FROM + 301), cardsOf([runOf(FROM, FROM + 300, { prompt: "done" })]), 1);
    expect(figures).toMatchObject({ ghosts: 0, left: 1, startedForNobody: 0 });
  });

  test("a run counts as started for nobody only if it starts more than 20 ms after its caller left", () => {
    expect([-50, 20, 21].map(startedAfter)).toEqual([
      [0, 0],
      [0, 20],
      [1, 21],
    ]);
  });

  test("the time of ghosts and the time of other runs add up to the busy time", () => {
    fc.assert(
      fc.property(busySlot, fc.func(fc.option(fc.integer({ min: 0, max: 1_200 }))), (slot, leaves) => {
        const runs = slot.map((run, i) => ({ ...run, prompt: `run ${i}` }));
        const gone = runs.flatMap((run, i) => {
          const after = leaves(i);
          return after === null ? [] : [[run.prompt, run.started_at + after] as const];
        });
        const { busy, shareOfRest, ghosts } = figuresOf(
          seenOf([], { left: new Map(gone) }),
          cardsOf(runs, { slots: 1 }),
          1,
        );
        const expected = gone.filter(([prompt, at]) => at < (runs.find((run) => run.prompt === prompt)?.ended_at ?? 0));
        expect(ghosts).toBe(expected.length);
        expect(busy).toBeCloseTo(1, 9);
        // If all runs are ghosts, no time is left to have a share of.
        if (ghosts < runs.length) expect(shareOfRest).toBeCloseTo(1, 6);
      }),
    );
  });
});
