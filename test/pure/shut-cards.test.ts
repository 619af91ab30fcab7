/** Cards whose gate is not closed: when a Pool offers them again. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Cards } from "../../durable-objects/choose-card.ts";
import type { CardReport, Gate } from "../../durable-objects/protocol.ts";

const NOW = 1_000_000_000;
const HOUR_MS = 3_600_000;
const SERVICE = "portrait";

const open = (untilAt: number, reason = "origin_reset"): Gate => ({ state: "open", untilAt, reason });

function told(cards: Cards, card: string, gate: Gate | null, now: number, more: Partial<CardReport> = {}): void {
  const gates = gate === null ? {} : { [SERVICE]: gate };
  cards.report(
    { card, incarnation: 1, seq: now, version: 1, slots: 2, state: "active", lastNumber: 0, held: [], gates, ...more },
    now,
  );
}

function pool(gates: Record<string, Gate | null>): Cards {
  const cards = new Cards(SERVICE);
  cards.configure(
    Object.keys(gates).map((card) => ({ card, weight: 1 })),
    NOW,
  );
  for (const [card, gate] of Object.entries(gates)) told(cards, card, gate, NOW);
  return cards;
}

test("a card that is out is not offered before its time, and then to one request alone", () => {
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

test("a card on trial, a card that is withdrawn and a card that does not know the service are not offered", () => {
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

test("the next trial is the earliest time to come, with the reason of that card", () => {
  const cards = pool({ a: open(NOW + 60_000, "later"), b: open(NOW + 30_000, "sooner"), c: null });
  expect(cards.nextTrial(NOW)).toEqual({ at: NOW + 30_000, cause: "sooner" });
  expect(cards.nextTrial(NOW + 30_000)).toEqual({ at: NOW + 60_000, cause: "later" });
  expect(cards.nextTrial(NOW + 60_000).at).toBeNull();
});

test("a clock that goes back by an hour keeps no card out of the line for that hour", () => {
  const cards = pool({ a: open(NOW + 30_000), b: open(NOW + 60_000) });
  expect(cards.health(NOW)).toBe("none");
  expect(cards.health(NOW - HOUR_MS)).toBe("healthy");
  expect(cards.best([], NOW - HOUR_MS)).toBe("a");
});

test("a clock that trembles lets nobody through early", () => {
  const property = fc.property(
    fc.array(fc.integer({ min: -400, max: 400 }), { maxLength: 50, size: "max" }),
    (trembles) => {
      const cards = pool({ a: open(NOW + 30_000) });
      for (const ms of trembles) expect(cards.best([], NOW + ms)).toBeNull();
    },
  );
  fc.assert(property, { numRuns: 200 });
});
