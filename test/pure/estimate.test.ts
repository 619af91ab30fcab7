import * as fc from "fast-check";
import { expect, test } from "vitest";
import { known, learn, startMs, type Times } from "../../durable-objects/estimate.ts";
import type { Observed } from "../../durable-objects/pool-protocol.ts";

/** The first runs have equal weight; after that the mean begins to forget. */
const ALIKE = 10;

const ms = fc.integer({ min: 0, max: 600_000 });
const runs = fc.array(fc.record({ firstByteMs: ms, totalMs: ms }), { minLength: 1, maxLength: 200, size: "max" });

function learned(seen: Observed[]): Times {
  const times = seen.reduce<Times | null>((before, one, at) => learn(before, one, at), null);
  if (times === null) throw new Error("nothing was seen");
  return times;
}

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

test("the first ten runs have equal weight: the estimate is their mean", () => {
  const property = fc.property(
    fc.array(fc.record({ firstByteMs: ms, totalMs: ms }), { minLength: 1, maxLength: ALIKE }),
    (seen) => {
      const { firstByteMs, totalMs, count } = learned(seen);
      expect(firstByteMs).toBeCloseTo(mean(seen.map((run) => run.firstByteMs)), 3);
      expect(totalMs).toBeCloseTo(mean(seen.map((run) => run.totalMs)), 3);
      expect(count).toBe(seen.length);
    },
  );
  fc.assert(property, { numRuns: 500 });
});

test("the estimate lies between the shortest and the longest run seen", () => {
  const property = fc.property(runs, (seen) => {
    const { totalMs } = learned(seen);
    const all = seen.map((run) => run.totalMs);
    expect(totalMs).toBeGreaterThanOrEqual(Math.min(...all) - 1e-6);
    expect(totalMs).toBeLessThanOrEqual(Math.max(...all) + 1e-6);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("after any history, a hundred runs of one length bring the estimate within 600 ms of that length", () => {
  const property = fc.property(runs, ms, (before, length) => {
    const steady = Array.from({ length: 100 }, () => ({ firstByteMs: length, totalMs: length }));
    const { totalMs } = learned([...before, ...steady]);
    expect(Math.abs(totalMs - length)).toBeLessThan(600);
  });
  fc.assert(property, { numRuns: 300 });
});

test("the wait grows with the requests ahead and shrinks with more slots, and is short for the next in line", () => {
  const times: Times = { firstByteMs: 100, totalMs: 1_200, count: 1, at: 0 };
  expect(startMs(times, 0, 12)).toBe(100);
  expect(startMs(times, 11, 12)).toBe(1_200);
  expect(startMs(times, 0, 1)).toBe(1_200);
  const property = fc.property(fc.nat({ max: 1_000 }), fc.integer({ min: 1, max: 100 }), (ahead, slots) => {
    const wait = startMs(times, ahead, slots) ?? 0;
    expect(startMs(times, ahead + 1, slots)).toBeGreaterThan(wait);
    expect(startMs(times, ahead, slots + 1)).toBeLessThan(wait);
  });
  fc.assert(property);
});

test("without observations or without a slot there is no estimate", () => {
  expect(startMs(null, 3, 12)).toBeNull();
  expect(startMs({ firstByteMs: 1, totalMs: 1, count: 1, at: 0 }, 3, 0)).toBeNull();
});

test("an estimate expires after ten minutes without a run, so that it can be learned anew", () => {
  const times = learn(null, { firstByteMs: 5_000, totalMs: 5_000 }, 1_000);
  expect(known(times, 601_000)).toBe(times);
  expect(known(times, 601_001)).toBeNull();
  expect(known(learn(times, { firstByteMs: 10, totalMs: 10 }, 601_001), 601_001)).not.toBeNull();
  expect(known(null, 0)).toBeNull();
});
