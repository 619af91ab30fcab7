/** Cards whose gate is not closed: when a Pool offers them again. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Cards } from "../../durable-objects/choose-card.ts";
import type { CardReport, BreakerState } from "../../durable-objects/card-protocol.ts";

const NOW = 1_000_000_000;
const HOUR_MS = 3_600_000;
const SERVICE = "portrait";

const open = (untilAt: number, reason = "origin_reset"): BreakerState => ({
  state: "open",
  untilAt,
  reason,
  proven: true,
});

function told(
  cards: Cards,
  card: string,
  gate: BreakerState | null,
  now: number,
  more: Partial<CardReport> = {},
): void {
  const gates = gate === null ? {} : { [SERVICE]: gate };
  cards.report(
    { card, incarnation: 1, seq: now, version: 1, slots: 2, state: "active", lastNumber: 0, held: [], gates, ...more },
    now,
  );
}

function pool(gates: Record<string, BreakerState | null>): Cards {
  const cards = new Cards(SERVICE);
  cards.configure(
    Object.keys(gates).map((card) => ({ card, weight: 1 })),
    NOW,
  );
  for (const [card, gate] of Object.entries(gates)) told(cards, card, gate, NOW);
  return cards;
}

test("an ejected card is not offered before its time, and then to one request only", () => {
  const cards = pool({ a: open(NOW + 30_000) });
  expect(cards.best([], NOW + 29_999)).toBeNull();
  expect(cards.health(NOW + 29_999)).toBe("none");
  expect(cards.health(NOW + 30_000)).toBe("healthy");
  expect(cards.best([], NOW + 30_000)).toBe("a");
  cards.offered("a", "trial", "t1", NOW + 30_000);
  expect(cards.best([], NOW + 60_000)).toBeNull();
});

test("a card whose time has come is tried although others are free", () => {
  const cards = pool({ a: { state: "closed", untilAt: 0, reason: null }, b: open(NOW + 30_000) });
  cards.offered("a", "one", "t1", NOW);
  expect(cards.best([], NOW)).toBe("a");
  expect(cards.best([], NOW + 30_000)).toBe("b");
});

test("cards on trial, withdrawn cards and cards that do not know the service are not offered", () => {
  const cards = pool({ a: { state: "trial", untilAt: NOW - 1, reason: "x" }, b: null });
  told(cards, "b", null, NOW);
  expect(cards.best([], NOW + HOUR_MS)).toBeNull();
  for (const [seq, state] of ["draining", "disabled"].entries()) {
    told(cards, "a", { state: "closed", untilAt: 0, reason: null }, NOW + 1 + seq, {
      state: state === "draining" ? "draining" : "disabled",
    });
    expect(cards.best([], NOW + HOUR_MS)).toBeNull();
    expect(cards.health(NOW + HOUR_MS)).toBe("none");
  }
});

test("the next trial is the earliest future one, with that card's reason", () => {
  const cards = pool({ a: open(NOW + 60_000, "later"), b: open(NOW + 30_000, "sooner"), c: null });
  expect(cards.nextTrial(NOW)).toEqual({ at: NOW + 30_000, cause: "sooner" });
  expect(cards.nextTrial(NOW + 30_000)).toEqual({ at: NOW + 60_000, cause: "later" });
  expect(cards.nextTrial(NOW + 60_000).at).toBeNull();
});

test("a clock that goes back by an hour does not keep a card out for that hour", () => {
  const cards = pool({ a: open(NOW + 30_000), b: open(NOW + 60_000) });
  expect(cards.health(NOW)).toBe("none");
  expect(cards.health(NOW - HOUR_MS)).toBe("healthy");
  expect(cards.best([], NOW - HOUR_MS)).toBe("a");
});

test("a clock that jitters lets no request through early", () => {
  const property = fc.property(
    fc.array(fc.integer({ min: -400, max: 400 }), { maxLength: 50, size: "max" }),
    (trembles) => {
      const cards = pool({ a: open(NOW + 30_000) });
      for (const ms of trembles) expect(cards.best([], NOW + ms)).toBeNull();
    },
  );
  fc.assert(property, { numRuns: 200 });
});

/** Ejected because runs failed; no trial has failed yet. */
const suspected = (untilAt = NOW + 30_000): BreakerState => ({ ...open(untilAt), proven: false });

test("at most half of a pool is ejected on suspicion: a further suspect gets one trial at once", () => {
  const closed: BreakerState = { state: "closed", untilAt: 0, reason: null };
  const cards = pool({ a: suspected(), b: suspected(), c: closed, d: closed });
  expect(["a", "b"].map((card) => cards.isTriedEarly(card))).toEqual([false, false]);
  told(cards, "c", suspected(), NOW + 1);
  expect(cards.isTriedEarly("c")).toBe(true);
  cards.offered("d", "one", "t1", NOW);
  expect(cards.best([], NOW)).toBe("c");
  cards.offered("c", "two", "t1", NOW);
  expect(cards.best([], NOW)).toBe("d");
  // Its trial fails: then it is ejected, however many are.
  told(cards, "c", open(NOW + 30_000), NOW + 2);
  expect(cards.isTriedEarly("c")).toBe(false);
  told(cards, "d", open(NOW + 30_000), NOW + 2);
  expect(cards.health(NOW)).toBe("none");
  // Another report of the same changes nothing.
  told(cards, "a", suspected(), NOW + 3);
  expect([cards.isTriedEarly("a"), cards.health(NOW)]).toEqual([false, "none"]);
});

test("for any order of failures, at most half of the cards are ejected on suspicion alone", () => {
  const step = fc.record({
    card: fc.constantFrom("a", "b", "c", "d", "e"),
    how: fc.constantFrom("sick", "bad", "well"),
  });
  const property = fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
    const closed: BreakerState = { state: "closed", untilAt: 0, reason: null };
    const cards = pool({ a: closed, b: closed, c: closed, d: closed, e: closed });
    const gates = new Map(["a", "b", "c", "d", "e"].map((card) => [card, closed]));
    for (const [seq, { card, how }] of steps.entries()) {
      const gate = how === "well" ? closed : how === "bad" ? open(NOW + 60_000) : suspected();
      const wasOut = gates.get(card)?.state === "open" && !cards.isTriedEarly(card);
      gates.set(card, gate);
      told(cards, card, gate, NOW + 1 + seq);
      const out = [...gates].filter(([name, { state }]) => state === "open" && !cards.isTriedEarly(name));
      const suspects = out.filter(([name]) => gates.get(name)?.proven === false);
      expect(suspects.length).toBeLessThanOrEqual(2);
      if (gate.proven === false && !wasOut && out.length > 2) expect(cards.isTriedEarly(card)).toBe(true);
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("when healthy cards are withdrawn or unlisted, suspects that were half of the pool are not all ejected", () => {
  const closed: BreakerState = { state: "closed", untilAt: 0, reason: null };
  const cards = pool({ a: suspected(), b: suspected(), c: closed, d: closed });
  expect(["a", "b"].map((card) => cards.isTriedEarly(card))).toEqual([false, false]);
  told(cards, "c", closed, NOW + 1, { state: "disabled" });
  told(cards, "d", closed, NOW + 1, { state: "draining" });
  expect(["a", "b"].filter((card) => cards.isTriedEarly(card))).toHaveLength(1);
  expect([cards.health(NOW), cards.best([], NOW)]).toEqual(["healthy", "b"]);
  const unlisted = pool({ a: suspected(), b: suspected(), c: closed, d: closed });
  unlisted.configure(
    ["a", "b"].map((card) => ({ card, weight: 1 })),
    NOW,
  );
  expect(unlisted.health(NOW)).toBe("healthy");
});

test("for any failures, recoveries and withdrawals, at most half of the active cards are ejected on suspicion", () => {
  const step = fc.record({
    card: fc.constantFrom("a", "b", "c", "d", "e"),
    how: fc.constantFrom("sick", "sick", "bad", "well", "withdrawn"),
  });
  const property = fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
    const closed: BreakerState = { state: "closed", untilAt: 0, reason: null };
    const names = ["a", "b", "c", "d", "e"];
    const cards = pool(Object.fromEntries(names.map((card) => [card, closed])));
    const known = new Map(names.map((card) => [card, { gate: closed, active: true }]));
    for (const [seq, { card, how }] of steps.entries()) {
      const gate = how === "bad" ? open(NOW + 60_000) : how === "sick" ? suspected() : closed;
      const active = how !== "withdrawn";
      known.set(card, { gate, active });
      told(cards, card, gate, NOW + 1 + seq, { state: active ? "active" : "disabled" });
      const inWork = [...known].filter(([, one]) => one.active);
      const out = inWork.filter(([name, one]) => one.gate.proven === false && !cards.isTriedEarly(name));
      expect(out.length).toBeLessThanOrEqual(inWork.length / 2);
    }
  });
  fc.assert(property, { numRuns: 500 });
});
