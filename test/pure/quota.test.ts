/** Monthly quotas, compared with a model that records every charge. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Counts, Quota } from "../../durable-objects/tenant-protocol.ts";
import { charge, monthEnd, monthOf, type Months, NO_MONTHS, restore } from "../../durable-objects/quota.ts";
import { expectThat } from "./same.ts";

const DAY_MS = 86_400_000;
const START = Date.UTC(2026, 11, 28);

const counts = fc.record({ results: fc.nat({ max: 4 }), costMilli: fc.oneof(fc.constant(0), fc.nat({ max: 3_000 })) });
const most = (max: number) => fc.oneof(fc.constant(null), fc.nat({ max }));
const quotas = fc.record({ results: most(12), costMilli: most(9_000) });
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ ask: counts }) },
    { weight: 3, arbitrary: fc.record({ back: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ passMs: fc.constantFrom(1, DAY_MS, 20 * DAY_MS) }) },
    { weight: 1, arbitrary: fc.record({ passMs: fc.constantFrom(-1, -DAY_MS, -2 * DAY_MS) }) },
    { weight: 1, arbitrary: fc.record({ quota: quotas }) },
  ),
  { maxLength: 120, size: "max" },
);

interface Charged {
  month: string;
  asked: Counts;
}

/** All charges that were not given back. */
class Model {
  readonly charged: Charged[] = [];

  in(month: string): Counts {
    const own = this.charged.filter((one) => one.month === month).map(({ asked }) => asked);
    return own.reduce((a, b) => ({ results: a.results + b.results, costMilli: a.costMilli + b.costMilli }), {
      results: 0,
      costMilli: 0,
    });
  }

  has(month: string, asked: Counts, quota: Quota): boolean {
    const used = this.in(month);
    const fits = (of: keyof Counts) => asked[of] === 0 || used[of] + asked[of] <= (quota[of] ?? Infinity);
    return fits("results") && fits("costMilli");
  }
}

test("a charge passes exactly when the month has room for it, whatever was charged and given back before", () => {
  const property = fc.property(quotas, steps, (first, list) => {
    const model = new Model();
    const given = new Set<Charged>();
    let [months, quota, now]: [Months, Quota, number] = [NO_MONTHS, first, START];
    for (const step of list) {
      if ("passMs" in step) now += step.passMs;
      else if ("quota" in step) ({ quota } = step);
      else if ("ask" in step) {
        const month = monthOf(now);
        const next = charge(months, step.ask, quota, now);
        expectThat(!("over" in next) === model.has(month, step.ask, quota), `${month}: ${JSON.stringify(next)}`);
        if ("over" in next) continue;
        months = next;
        model.charged.push({ month, asked: step.ask });
      } else {
        // Only charges of months that are still kept.
        const open = model.charged.filter((one) => months.has(one.month) && !given.has(one));
        const one = open[step.back % Math.max(1, open.length)];
        if (one === undefined) continue;
        given.add(one);
        months = restore(months, one.asked, one.month);
        model.charged.splice(model.charged.indexOf(one), 1);
      }
      for (const [month, used] of months) expect(used).toEqual(model.in(month));
      expectThat(months.size <= 3, "more than three months are kept");
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("a month starts empty at its first millisecond, and refunds for the month before do not add to it", () => {
  const quota = { results: 3, costMilli: null };
  const now = Date.UTC(2027, 0, 31, 23, 59, 59, 999);
  const used = charge(NO_MONTHS, { results: 3, costMilli: 0 }, quota, now) as Months;
  expect(charge(used, { results: 1, costMilli: 0 }, quota, now)).toEqual({ over: "results", quota: 3 });
  expect(monthEnd(now)).toBe(now + 1);
  const next = charge(used, { results: 3, costMilli: 0 }, quota, now + 1) as Months;
  const back = restore(next, { results: 3, costMilli: 0 }, monthOf(now));
  expect(charge(back, { results: 1, costMilli: 0 }, quota, now + 1)).toEqual({ over: "results", quota: 3 });
  // When the clock goes back over the boundary, the month before has room again, but no more than it had.
  const late = charge(back, { results: 3, costMilli: 0 }, quota, now) as Months;
  expect(charge(late, { results: 1, costMilli: 0 }, quota, now)).toEqual({ over: "results", quota: 3 });
});

test("a month's end is the first moment of the next month, in leap years too", () => {
  const property = fc.property(fc.integer({ min: 0, max: 4_102_444_800_000 }), (now) => {
    const end = monthEnd(now);
    expectThat(end > now && end - now <= 31 * DAY_MS, "it is far");
    expect([monthOf(end - 1), monthOf(end) > monthOf(now)]).toEqual([monthOf(now), true]);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("refunds for a month that is not kept, or beyond what was charged, make no room", () => {
  const quota = { results: 2, costMilli: 1_000 };
  const used = charge(NO_MONTHS, { results: 2, costMilli: 1_000 }, quota, START) as Months;
  expect(restore(used, { results: 9, costMilli: 9_000 }, "2020-01")).toBe(used);
  const back = restore(used, { results: 9, costMilli: 9_000 }, monthOf(START));
  expect(charge(back, { results: 3, costMilli: 0 }, quota, START)).toMatchObject({ over: "results" });
  expect(charge(back, { results: 0, costMilli: 1_001 }, quota, START)).toEqual({ over: "cost", quota: 1 });
});
