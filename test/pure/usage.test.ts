import fc from "fast-check";
import { expect, test } from "vitest";
import type { Spent, Use } from "../../durable-objects/tenant-protocol.ts";
import { firstKept, keptUntil, NO_USE, sum, useOf } from "../../durable-objects/usage.ts";
import { dayOf } from "../../durable-objects/tenant-protocol.ts";

const DAY_MS = 86_400_000;
const count = fc.nat({ max: 1e9 });
const refusals = fc.dictionary(fc.constantFrom("queue_full", "client_gone", "paused"), fc.integer({ min: 1, max: 9 }));
const use: fc.Arbitrary<Use> = fc.record({
  requests: count,
  hits: count,
  results: count,
  bytes: count,
  gpuMs: count,
  costMilli: count,
  refusals,
});
const spent: fc.Arbitrary<Spent> = fc.record({
  gpuMs: count,
  bytes: count,
  results: fc.option(fc.nat({ max: 9 })),
  reason: fc.option(fc.constantFrom("queue_full", "origin_reset")),
  admitted: fc.constant(null),
});

test("usage sums are the same in any order and grouping", () => {
  fc.assert(
    fc.property(use, use, use, (a, b, c) => {
      expect(sum(a, b)).toEqual(sum(b, a));
      expect(sum(sum(a, b), c)).toEqual(sum(a, sum(b, c)));
      expect(sum(NO_USE, a)).toEqual(a);
    }),
  );
});

test("a request counts once, with its GPU time whatever it is charged, and its cost is the charge", () => {
  fc.assert(
    fc.property(spent, fc.nat({ max: 9 }), fc.nat({ max: 9_000 }), (took, asked, costMilli) => {
      const one = useOf(took, asked, costMilli);
      expect(one).toMatchObject({ requests: 1, hits: 0, gpuMs: took.gpuMs, bytes: took.bytes });
      expect(one.results).toBe(took.results ?? asked);
      expect(one.costMilli).toBe(costMilli);
      expect(one.refusals).toEqual(took.reason === null ? {} : { [took.reason]: 1 });
    }),
  );
});

test("a day is kept for 400 days after it, and no longer", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 0, max: 500 * DAY_MS }), (at, later) => {
      const day = dayOf(at);
      expect(day >= firstKept(at + later)).toBe(at + later < keptUntil(day));
    }),
  );
  expect(keptUntil("2026-01-01") - Date.parse("2026-01-01")).toBe(401 * DAY_MS);
});
