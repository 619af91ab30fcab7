import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type Budget, earn, newBudget, spend } from "../../durable-objects/budget.ts";

const NOW = 1_000_000;
const SAVED_MAX = 20;
const HOUR_MS = 3_600_000;

/** Spends until nothing is left. Returns how many retries were allowed. */
function spendAll(budget: Budget, now: number): { spent: number; left: Budget } {
  let left = budget;
  for (let spent = 0; ; spent++) {
    const { ok, budget: next } = spend(left, now);
    left = next;
    if (!ok) return { spent, left };
  }
}

test("a new pool may retry as often as the maximum that can be saved, and then no more at once", () => {
  expect(spendAll(newBudget(NOW), NOW).spent).toBe(SAVED_MAX);
});

test("five requests or one second earn a retry, and no more than the maximum is saved", () => {
  const { left } = spendAll(newBudget(NOW), NOW);
  let budget = left;
  for (let i = 0; i < 4; i++) budget = earn(budget, NOW);
  expect(spend(budget, NOW).ok).toBe(false);
  expect(spend(earn(budget, NOW), NOW).ok).toBe(true);
  expect(spend(left, NOW + 999).ok).toBe(false);
  expect(spend(left, NOW + 1_000).ok).toBe(true);
  expect(spendAll(left, NOW + HOUR_MS).spent).toBe(SAVED_MAX);
  for (let i = 0; i < 1_000; i++) budget = earn(budget, NOW);
  expect(spendAll(budget, NOW).spent).toBe(SAVED_MAX);
});

test("a refused retry costs nothing: time keeps earning", () => {
  let { left: budget } = spendAll(newBudget(NOW), NOW);
  for (let ms = 10; ms < 1_000; ms += 10) budget = spend(budget, NOW + ms).budget;
  expect(spend(budget, NOW + 1_000).ok).toBe(true);
});

test("a clock that is set back earns nothing", () => {
  const { left } = spendAll(newBudget(NOW), NOW);
  const { ok, budget } = spend(left, NOW - HOUR_MS);
  expect(ok).toBe(false);
  expect(spend(budget, NOW - HOUR_MS + 1_000).ok).toBe(true);
});

test("there are never more retries than were saved and earned by requests and by time", () => {
  const steps = fc.array(fc.record({ retry: fc.boolean(), ms: fc.nat({ max: 400 }) }), { maxLength: 200, size: "max" });
  const property = fc.property(steps, (list) => {
    let budget = newBudget(NOW);
    let [now, retries, requests] = [NOW, 0, 0];
    for (const { retry, ms } of list) {
      now += ms;
      if (retry) {
        const answer = spend(budget, now);
        budget = answer.budget;
        if (answer.ok) retries++;
      } else {
        budget = earn(budget, now);
        requests++;
      }
      expect(retries).toBeLessThanOrEqual(SAVED_MAX + requests / 5 + (now - NOW) / 1_000 + 1e-6);
    }
  });
  fc.assert(property, { numRuns: 300 });
});
