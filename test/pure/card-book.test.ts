/**
 * The Card's counters under any sequence of calls: every run that got a slot is counted once, by how it first ended.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Health } from "../../durable-objects/breaker.ts";
import { CardBook } from "../../durable-objects/card-book.ts";
import { LEASE_MS, type CardCounters, type Ending } from "../../durable-objects/card-protocol.ts";
import { expectThat } from "./same.ts";
import { cardConfig, countsOfNothing, SERVICE } from "./small-card.ts";
import { attempt, CLEAN, UNCLEAN } from "./slots-model.ts";

const NOW = 1_000_000_000;
const HOUR_MS = 3_600_000;
const FAILED: Ending = { clean: true, health: "failed", reason: "x" };

function bookOf(slots: number): CardBook {
  const health = new Map<string, Health>();
  const store = { health: () => health, keepHealth: () => undefined };
  return new CardBook(cardConfig("card", slots), [], countsOfNothing(), store);
}

function numberOf(book: CardBook, name: string, now = NOW): number {
  const outcome = book.claim(attempt(name), now);
  if ("no" in outcome) throw new Error(outcome.no);
  return outcome.lease.number;
}

type Call = [what: string, who: number, ms: number];
const calls = fc.array(
  fc.tuple(
    fc.constantFrom("claim", "claim", "renew", "clean", "unclean", "failed", "unclaim", "vanish", "heard", "reap"),
    fc.integer({ min: 1, max: 6 }),
    fc.constantFrom(0, 0, 10, 12_000, LEASE_MS, HOUR_MS, -HOUR_MS),
  ),
  { maxLength: 60, size: "max" },
);
const ENDINGS: Record<string, Ending> = { clean: CLEAN, unclean: UNCLEAN, failed: FAILED };

function say(book: CardBook, [what, who, now]: Call, numbers: Map<number, number>): void {
  const name = `attempt ${who}`;
  const number = numbers.get(who) ?? 0;
  if (what === "claim") {
    book.reap(now);
    const outcome = book.claim(attempt(name), now);
    if (!("no" in outcome)) numbers.set(who, outcome.lease.number);
  } else if (what === "renew") book.renew(number, name, now);
  else if (what === "unclaim") book.unclaim(name);
  else if (what === "vanish") book.vanish(number, now);
  else if (what === "heard") book.applyReport(who - 1, null);
  else if (what === "reap") book.reap(now);
  else book.release(number, name, ENDINGS[what] ?? CLEAN, now);
}

test("claims = done + failed + orphaned + currently leased, for any sequence of calls", () => {
  const property = fc.property(calls, (list) => {
    const book = bookOf(2);
    const numbers = new Map<number, number>();
    let now = NOW;
    for (const [what, who, ms] of list) {
      now += ms;
      say(book, [what, who, now], numbers);
      const { claims, done, failed, orphaned } = book.counters;
      const leased = book.leases.filter(({ state }) => state === "leased").length;
      const line = `after ${what}: ${claims} claims, ${done} done, ${failed} failed, ${orphaned} orphaned, ${leased} leased`;
      expectThat(claims === done + failed + orphaned + leased, line);
      expectThat(Math.min(...Object.values(book.counters)) >= 0, "a counter is below nothing");
    }
  });
  fc.assert(property, { numRuns: 3_000 });
});

test("a repeated call counts once", () => {
  const book = bookOf(2);
  const number = numberOf(book, "one");
  expect(numberOf(book, "one")).toBe(number);
  for (let twice = 0; twice < 2; twice++) book.release(number, "one", CLEAN, NOW);
  const other = numberOf(book, "two");
  for (let twice = 0; twice < 2; twice++) book.vanish(other, NOW);
  for (let twice = 0; twice < 2; twice++) book.unclaim("two");
  const expected: Partial<CardCounters> = { claims: 2, done: 1, failed: 1, orphaned: 0, late: 1, stale: 0 };
  expect(book.counters).toMatchObject(expected);
});

test("an attempt that is unclaimed after its unclean end is counted once, and its slot keeps draining", () => {
  const book = bookOf(1);
  const number = numberOf(book, "one");
  book.release(number, "one", UNCLEAN, NOW);
  expect(book.unclaim("one")).toEqual([]);
  expect(book.counters).toMatchObject({ claims: 1, failed: 1, orphaned: 0 });
  expect(book.claim(attempt("two"), NOW)).toEqual({ no: "full" });
});

test.each(["given up", "vanished"])("a trial that is %s lets the next one try, and says nothing of the card", (how) => {
  const book = bookOf(2);
  for (let i = 0; i < 3; i++) book.release(numberOf(book, `${i}`), `${i}`, FAILED, NOW);
  const later = NOW + 30_000;
  const number = numberOf(book, "trial", later);
  expect(book.claim(attempt("next"), later)).toMatchObject({ no: "ejected" });
  if (how === "vanished") book.vanish(number, later);
  else book.unclaim("trial");
  expect(book.report(1, 1, later).gates[SERVICE]).toMatchObject({ state: "half_open" });
  expect(book.claim(attempt("next"), later)).toMatchObject({ lease: { attempt: "next" } });
});

test("a withdrawn card and an unlisted service refuse the claim with that reason, and the refusal is counted", () => {
  const book = bookOf(1);
  expect(book.claim(attempt("one", "unknown"), NOW)).toEqual({ no: "unlisted" });
  if (book.config !== null) book.config = { ...book.config, state: "draining" };
  expect(book.claim(attempt("one"), NOW)).toEqual({ no: "withdrawn" });
  expect([book.counters.refused, book.counters.claims]).toEqual([2, 0]);
});
