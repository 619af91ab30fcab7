import fc from "fast-check";
import { expect, test } from "vitest";
import { recoveryOf } from "../../bench/recovery.ts";
import { FROM, sampleOf, seenOf } from "./seen.ts";

const KILLED = FROM + 6_000;
const UNTIL = FROM + 30_000;
const EVERY_MS = 25;

/** Answers at an even pace, but for none between the kill and `backMs` after it. */
function answers(backMs: number, every = EVERY_MS) {
  const all = Array.from({ length: (UNTIL - FROM) / every }, (_, i) => sampleOf({ at: FROM + i * every, ms: 10 }));
  return all.filter(({ at }) => at < KILLED || at >= KILLED + backMs);
}

const recovery = (samples: ReturnType<typeof answers>, upAt = KILLED + 80) =>
  recoveryOf(seenOf(samples, { until: UNTIL }), { killedAt: KILLED, upAt });

test("who was never away is back at once", () => {
  const { backMs, beforePerSecond, perSecond, killedMs, upMs } = recovery(answers(0));
  expect({ backMs, beforePerSecond, killedMs, upMs }).toEqual({
    backMs: 0,
    beforePerSecond: 40,
    killedMs: 6_000,
    upMs: 80,
  });
  expect(perSecond).toEqual(Array.from({ length: 30 }, () => 40));
});

test("who answers nothing for a while is back when it ends, to within the share that may be missing", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 20_900 }), (awayMs) => {
      const { backMs } = recovery(answers(awayMs));
      // A twentieth of the three seconds that are looked at may lie before the end, and steps are of 100 ms.
      expect(backMs).toBeGreaterThanOrEqual(awayMs - 150 - EVERY_MS);
      expect(backMs).toBeLessThanOrEqual(Math.max(0, awayMs) + 100);
    }),
  );
});

test("who stays below 0.95 of before is not back, however long one looks", () => {
  const slow = answers(0).filter(({ at }, i) => at < KILLED || i % 10 !== 0);
  expect(recovery(slow).backMs).toBeNull();
});

test("three whole seconds have to be seen: one who returns in the last two is not back", () => {
  expect(recovery(answers(22_000)).backMs).toBeNull();
});

test("with nothing before the kill there is nothing to come back to", () => {
  expect(recovery(answers(0).filter(({ at }) => at >= KILLED))).toMatchObject({ backMs: null, beforePerSecond: 0 });
});

test("the first answer is to a request that was sent after the kill, and errors are those after it", () => {
  const samples = [
    sampleOf({ at: KILLED - 1, status: 503 }),
    sampleOf({ at: KILLED, status: 0 }),
    sampleOf({ at: KILLED + 5, ms: 300 }),
    sampleOf({ at: KILLED + 900, ms: 900 }),
    sampleOf({ at: KILLED + 950, ms: 10, status: 503 }),
  ];
  expect(recovery(samples)).toMatchObject({ firstMs: 900, errors: 2 });
});

test("every answer 200 of the whole seconds is counted in one of them", () => {
  const times = fc.array(fc.integer({ min: 0, max: 29_999 }));
  fc.assert(
    fc.property(times, (ms) => {
      const { perSecond } = recovery(ms.map((each) => sampleOf({ at: FROM + each })));
      expect(perSecond).toHaveLength(30);
      expect(perSecond.reduce((a, b) => a + b, 0)).toBe(ms.length);
    }),
  );
});
