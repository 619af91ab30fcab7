import fc from "fast-check";
import { expect, test } from "vitest";
import { recoveryOf } from "../../bench/recovery.ts";
import { FROM, sampleOf, seenOf } from "./seen.ts";

const KILLED = FROM + 6_000;
const UNTIL = FROM + 30_000;
const EVERY_MS = 25;

/** Answers at an even pace, except for a gap of `backMs` after the kill. */
function answers(backMs: number, every = EVERY_MS) {
  const all = Array.from({ length: (UNTIL - FROM) / every }, (_, i) => sampleOf({ at: FROM + i * every, ms: 10 }));
  return all.filter(({ at }) => at < KILLED || at >= KILLED + backMs);
}

const recovery = (samples: ReturnType<typeof answers>, upAt = KILLED + 80) =>
  recoveryOf(seenOf(samples, { until: UNTIL }), { killedAt: KILLED, upAt });

test("a server without a gap has recovered at once", () => {
  const { backMs, beforePerSecond, perSecond, killedMs, upMs } = recovery(answers(0));
  expect({ backMs, beforePerSecond, killedMs, upMs }).toEqual({
    backMs: 0,
    beforePerSecond: 40,
    killedMs: 6_000,
    upMs: 80,
  });
  expect(perSecond).toEqual(Array.from({ length: 30 }, () => 40));
});

test("a server has recovered when its gap ends, to within the share of answers that may be missing", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 20_900 }), (awayMs) => {
      const { backMs } = recovery(answers(awayMs));
      // Up to a twentieth of the three seconds may lie in the gap, and steps are 100 ms.
      expect(backMs).toBeGreaterThanOrEqual(awayMs - 150 - EVERY_MS);
      expect(backMs).toBeLessThanOrEqual(Math.max(0, awayMs) + 100);
    }),
  );
});

test("a server that stays below 0.95 of its earlier rate never recovers", () => {
  const slow = answers(0).filter(({ at }, i) => at < KILLED || i % 10 !== 0);
  expect(recovery(slow).backMs).toBeNull();
});

test("recovery needs three full seconds: a return in the last two does not count", () => {
  expect(recovery(answers(22_000)).backMs).toBeNull();
});

test("without answers before the kill there is no recovery time", () => {
  expect(recovery(answers(0).filter(({ at }) => at >= KILLED))).toMatchObject({ backMs: null, beforePerSecond: 0 });
});

test("the first answer counts only requests sent after the kill, and so do errors", () => {
  const samples = [
    sampleOf({ at: KILLED - 1, status: 503 }),
    sampleOf({ at: KILLED, status: 0 }),
    sampleOf({ at: KILLED + 5, ms: 300 }),
    sampleOf({ at: KILLED + 900, ms: 900 }),
    sampleOf({ at: KILLED + 950, ms: 10, status: 503 }),
  ];
  expect(recovery(samples)).toMatchObject({ firstMs: 900, errors: 2 });
});

test("every answer with status 200 is counted in exactly one second", () => {
  const times = fc.array(fc.integer({ min: 0, max: 29_999 }));
  fc.assert(
    fc.property(times, (ms) => {
      const { perSecond } = recovery(ms.map((each) => sampleOf({ at: FROM + each })));
      expect(perSecond).toHaveLength(30);
      expect(perSecond.reduce((a, b) => a + b, 0)).toBe(ms.length);
    }),
  );
});
