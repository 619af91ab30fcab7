/**
 * A Pool and its Cards together, with late, reordered, duplicated and lost messages between them (pool-in-small.ts).
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SmallPool } from "./pool-in-small.ts";
import { expectThat } from "./same.ts";
import { accidentalSteps, expectSound, idle, play, sizes, steps, wind } from "./small-steps.ts";

/** A lost message is made up for within this time. */
const MENDED_MS = 6_000;

test("no wake-up is lost: when all messages have arrived, no slot is free that a waiting request may have", () => {
  const property = fc.property(sizes, steps, (size, list) => {
    const pool = new SmallPool(size);
    play(pool, list);
    for (const card of pool.cards) pool.rest(card);
    pool.settle(300);
    expect(idle(pool)).toEqual([]);
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("lost messages, clock jumps and Pool restarts leave no slot idle for more than six seconds", () => {
  const property = fc.property(sizes, accidentalSteps, (size, list) => {
    const pool = new SmallPool(size);
    play(pool, list);
    for (const card of pool.cards) pool.rest(card);
    pool.settle(MENDED_MS);
    expect(idle(pool)).toEqual([]);
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("whatever happens, a request has one outcome, leaves nothing behind, and no GPU exceeds its slots", () => {
  const property = fc.property(sizes, accidentalSteps, (size, list) => {
    const pool = new SmallPool(size);
    play(pool, list);
    wind(pool);
    for (const { name, words } of pool.callers) expectThat(words.length === 1, `${name}: ${words.join() || "nothing"}`);
    for (const card of pool.cards) expectSound(card);
    expect(pool.cards.flatMap(({ book }) => book.leases)).toEqual([]);
    expect([pool.desk.queued, [...pool.desk.tickets]]).toEqual([0, []]);
    for (const tenant of ["tenant 0", "tenant 1", "tenant 2"]) expect(pool.desk.cards.holding(tenant)).toBe(0);
  });
  fc.assert(property, { numRuns: 1_500 });
});
