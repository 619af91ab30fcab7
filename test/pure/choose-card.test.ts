import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Cards } from "../../durable-objects/choose-card.ts";
import type { CardReport, BreakerState, Held } from "../../durable-objects/card-protocol.ts";
import { CardsModel, SERVICE } from "./cards-model.ts";
import { expectSame } from "./same.ts";

const NOW = 1_000_000;
const CARDS = ["a", "b", "c", "d"];
const TENANTS = ["t1", "t2", "t3"];
const CLOSED: BreakerState = { state: "closed", untilAt: 0, reason: null };

function holding(attempt: string, more: Partial<Held> = {}): Held {
  const base = { number: 1, request: "", tenant: "t1", service: SERVICE, fingerprint: null, claimedAt: 0 };
  return { ...base, attempt, state: "leased", ...more };
}

function reportOf(card: string, more: Partial<CardReport> = {}): CardReport {
  const base = { incarnation: 1, seq: 1, version: 1, slots: 2, lastNumber: 0, held: [], gates: { [SERVICE]: CLOSED } };
  return { card, state: "active", ...base, ...more };
}

/** A pool of cards that have all reported. */
function pool(...reports: CardReport[]): Cards {
  const cards = new Cards(SERVICE);
  cards.configure(
    reports.map(({ card }) => ({ card, weight: 1 })),
    NOW,
  );
  for (const report of reports) cards.report(report, NOW);
  return cards;
}

const card = fc.constantFrom(...CARDS);
const tenant = fc.constantFrom(...TENANTS);
const attempt = fc.integer({ min: 1, max: 12 }).map((i) => `attempt ${i}`);
const number = fc.integer({ min: 1, max: 8 });
const gate: fc.Arbitrary<BreakerState> = fc.record({
  state: fc.constantFrom("closed", "closed", "closed", "open", "half_open", "trial"),
  untilAt: fc.integer({ min: NOW - 1_000, max: NOW + 100_000 }),
  reason: fc.constant("origin_reset"),
  // Trials forced by the suspicion limit are tested in shut-cards.test.ts.
  proven: fc.constant(true),
  most: fc.integer({ min: 1, max: 3 }),
});
const held = fc.uniqueArray(
  fc
    .record({ attempt, tenant, service: fc.constantFrom(SERVICE, SERVICE, "speech") })
    .map(({ attempt: name, ...more }) => holding(name, more)),
  { maxLength: 3, selector: (one) => one.attempt },
);
const report: fc.Arbitrary<CardReport> = fc
  .record({
    card,
    incarnation: fc.integer({ min: 1, max: 3 }),
    seq: fc.integer({ min: 1, max: 20 }),
    slots: fc.integer({ min: 0, max: 3 }),
    state: fc.constantFrom(
      "active" as const,
      "active" as const,
      "active" as const,
      "draining" as const,
      "disabled" as const,
    ),
    lastNumber: fc.nat({ max: 8 }),
    held,
    gate: fc.option(gate, { freq: 12 }),
  })
  .map(({ gate: shown, ...more }) => ({ ...more, version: 1, gates: shown === null ? {} : { [SERVICE]: shown } }));

type Call = fc.Command<CardsModel, Cards>;

function call(name: string, run: (model: CardsModel, cards: Cards) => void): Call {
  return {
    check: () => true,
    run(model, cards) {
      run(model, cards);
      const told = TENANTS.map((one) => cards.holding(one));
      expectSame(
        told,
        TENANTS.map((one) => model.holding(one)),
        "holding",
      );
      expectSame(cards.best([], model.now), model.best([]), "best");
      expectSame(cards.health(model.now), model.health(), "health");
      expectSame(cards.capacity(model.now), model.capacity(), "capacity");
      expectSame(cards.nextTrial(model.now).at, model.trialAt(), "next trial");
    },
    toString: () => name,
  };
}

const listed = fc.uniqueArray(fc.record({ card, weight: fc.constantFrom(1, 2, 4) }), { selector: (one) => one.card });
const calls = [
  listed.map((list) =>
    call(`configure(${list.map((one) => one.card).join("")})`, (model, cards) => {
      model.configure(list);
      cards.configure(list, model.now);
    }),
  ),
  ...[report, report, report].map((some) =>
    some.map((told) =>
      call(`report(${fc.stringify(told)})`, (model, cards) => {
        const expected = model.report(told);
        expectSame(cards.report(told, model.now), expected);
      }),
    ),
  ),
  fc.tuple(fc.uniqueArray(card, { maxLength: 3 }), attempt, tenant).map(([tried, name, who]) =>
    call(`offer(${name} of ${who}, not ${tried.join("")})`, (model, cards) => {
      const best = model.best(tried);
      expectSame(cards.best(tried, model.now), best);
      if (best === null) return;
      model.offered(best, name, who);
      cards.offered(best, name, who, model.now);
    }),
  ),
  fc.tuple(card, attempt, number).map(([which, name, given]) =>
    call(`claimed(${which}, ${name}, ${given})`, (model, cards) => {
      model.claimed(which, name, given);
      cards.claimed(which, name, given, model.now);
    }),
  ),
  fc.tuple(card, attempt).map(([which, name]) =>
    call(`withdrawn(${which}, ${name})`, (model, cards) => {
      model.withdrawn(which, name);
      cards.withdrawn(which, name, model.now);
    }),
  ),
  card.map((which) =>
    call(`refused(${which})`, (model, cards) => {
      model.refused(which);
      cards.refused(which);
    }),
  ),
  fc.integer({ min: 0, max: 60_000 }).map((ms) => call(`lapse(${ms})`, (model) => void (model.now += ms))),
];

test("counts and choices equal those of a full recomputation, for any sequence of calls", () => {
  const property = fc.property(fc.commands(calls, { maxCommands: 60, size: "max" }), (commands) => {
    const [model, real] = [new CardsModel(), new Cards(SERVICE)];
    const all = CARDS.map((name) => ({ card: name, weight: 1 }));
    model.configure(all);
    real.configure(all, NOW);
    fc.modelRun(() => ({ model, real }), commands);
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("a card is never offered beyond its slots minus those held by other services and those pending", () => {
  const cards = pool(reportOf("a", { slots: 3, held: [holding("x", { service: "speech" })] }));
  for (const name of ["one", "two"]) {
    expect(cards.best([], NOW)).toBe("a");
    cards.offered("a", name, "t1", NOW);
  }
  expect(cards.best([], NOW)).toBeNull();
});

test("the card with the lowest used share of slots by weight goes first, then the longest unused", () => {
  const cards = new Cards(SERVICE);
  cards.configure(
    [
      { card: "big", weight: 2 },
      { card: "small", weight: 1 },
    ],
    NOW,
  );
  for (const name of ["big", "small"]) cards.report(reportOf(name, { slots: 4 }), NOW);
  const order = Array.from({ length: 8 }, (_, i) => {
    const best = cards.best([], NOW) ?? "";
    cards.offered(best, `attempt ${i}`, "t1", NOW);
    return best;
  });
  expect(order).toEqual(["big", "small", "big", "small", "big", "big", "small", "small"]);
});

test("equal cards take turns: none is used twice before every card was used once", () => {
  const cards = pool(...CARDS.map((name) => reportOf(name)));
  const used = Array.from({ length: 12 }, (_, i) => {
    const best = cards.best([], NOW) ?? "";
    cards.offered(best, `attempt ${i}`, "t1", NOW);
    cards.withdrawn(best, `attempt ${i}`, NOW);
    return best;
  });
  expect(used).toEqual([...CARDS, ...CARDS, ...CARDS]);
});

test("a card that failed the request is avoided, unless no other card takes work", () => {
  const cards = pool(reportOf("a"), reportOf("b", { slots: 1 }));
  expect(cards.best(["a"], NOW)).toBe("b");
  cards.offered("b", "attempt", "t1", NOW);
  // The other card is busy, not ejected, so it is worth waiting for.
  expect(cards.best(["a"], NOW)).toBeNull();
  cards.report(reportOf("b", { seq: 2, state: "draining" }), NOW);
  expect(cards.best(["a"], NOW)).toBe("a");
  expect(cards.best(["a", "b"], NOW)).toBe("a");
});

test("an outdated report changes nothing, whether its sequence number or its incarnation is older", () => {
  const cards = pool(reportOf("a", { incarnation: 2, seq: 5, held: [holding("x")] }));
  for (const [incarnation, seq] of [
    [2, 5],
    [2, 4],
    [1, 99],
  ] as const) {
    expect(cards.report(reportOf("a", { incarnation, seq }), NOW)).toBe(false);
    expect(cards.holding("t1")).toBe(1);
  }
  expect(cards.report(reportOf("a", { incarnation: 3, seq: 1 }), NOW)).toBe(true);
  expect(cards.holding("t1")).toBe(0);
});

test("an attempt is counted once, whichever of offer, claim and report comes first or twice", () => {
  const cards = pool(reportOf("a"));
  cards.offered("a", "one", "t1", NOW);
  cards.offered("a", "one", "t1", NOW);
  expect(cards.holding("t1")).toBe(1);
  cards.report(reportOf("a", { seq: 2, lastNumber: 7, held: [holding("one", { number: 7 })] }), NOW);
  cards.claimed("a", "one", 7, NOW);
  expect(cards.holding("t1")).toBe(1);
  cards.report(reportOf("a", { seq: 3, lastNumber: 7 }), NOW);
  expect(cards.holding("t1")).toBe(0);
});

test("a run that ended before the pool learned of its claim is not counted forever", () => {
  const cards = pool(reportOf("a"));
  cards.offered("a", "one", "t1", NOW);
  cards.report(reportOf("a", { seq: 2, lastNumber: 7 }), NOW);
  expect(cards.holding("t1")).toBe(1);
  cards.claimed("a", "one", 7, NOW);
  expect(cards.holding("t1")).toBe(0);
});

test("a card that refused a claim is not offered before its next report, whatever else is withdrawn there", () => {
  const cards = pool(reportOf("a"));
  cards.offered("a", "one", "t1", NOW);
  cards.withdrawn("a", "one", NOW);
  cards.offered("a", "two", "t1", NOW);
  cards.refused("a");
  cards.withdrawn("a", "two", NOW);
  cards.configure([{ card: "a", weight: 1 }], NOW);
  expect(cards.best([], NOW)).toBeNull();
  cards.report(reportOf("a", { seq: 2 }), NOW);
  expect(cards.best([], NOW)).toBe("a");
});
