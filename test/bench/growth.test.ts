import fc from "fast-check";
import { expect, test } from "vitest";
import { DESK_BASE, DESK_GROWING, type Dimension, growthOf, sizes } from "../../bench/scale-report.ts";
import type { Size } from "../../bench/scale-desk.ts";

const ALL = sizes(DESK_BASE, DESK_GROWING);
const dimensions = fc.constantFrom<Dimension>("waiting", "tenants", "cards");
const judged = (cycleUs: (size: Size) => number | null) =>
  growthOf(
    "made up",
    ALL.map((size) => ({ ...size, cycleUs: cycleUs(size) })),
    DESK_BASE,
    DESK_GROWING,
  );
const bad = (growth: ReturnType<typeof judged>) => growth.filter(({ holds }) => !holds).map((one) => one.dimension);

test("sizes are unique and differ from the base in at most one dimension", () => {
  expect(new Set(ALL.map((size) => JSON.stringify(size))).size).toBe(ALL.length);
  for (const size of ALL) {
    const changed = (Object.keys(DESK_BASE) as Dimension[]).filter((one) => size[one] !== DESK_BASE[one]);
    expect(changed.length).toBeLessThanOrEqual(1);
  }
});

test("constant and logarithmic growth pass, with up to 25 % noise", () => {
  const parameters = fc.record({
    fixed: fc.double({ min: 1, max: 100, noNaN: true }),
    log: fc.double({ min: 0, max: 20, noNaN: true }),
    noise: fc.func(fc.double({ min: 1, max: 1.25, noNaN: true })),
  });
  fc.assert(
    fc.property(parameters, ({ fixed, log, noise }) => {
      const growth = judged((size) => {
        const { waiting, tenants, cards } = size;
        const logarithm = Math.log2(2 + waiting) + Math.log2(2 + tenants) + Math.log2(2 + cards);
        return (fixed + log * logarithm) * noise(size);
      });
      expect(bad(growth)).toEqual([]);
    }),
  );
});

test("linear growth in one dimension fails in that dimension, even if it is small at first", () => {
  fc.assert(
    fc.property(dimensions, fc.double({ min: 1, max: 100, noNaN: true }), (dimension, fixed) => {
      // As much as the fixed part, at the last size but one.
      const each = fixed / (DESK_GROWING[dimension].at(-2) ?? 1);
      expect(bad(judged((size) => fixed + each * size[dimension]))).toContain(dimension);
    }),
  );
});

test("a size without a measurement fails", () => {
  expect(bad(judged(({ cards }) => (cards === 5_000 ? null : 10)))).toEqual(["cards"]);
});
