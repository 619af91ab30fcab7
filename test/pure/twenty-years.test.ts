/**
 * Bugs that HAProxy's queue had in twenty years, as tests of our line and slots. The comment above a test names the
 * commit that fixed the bug there. Locks and threads there correspond to messages in any order here
 * (coalescer.test.ts).
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Cards } from "../../durable-objects/choose-card.ts";
import { cardReport } from "../support/card-report.ts";
import { Slots } from "../../durable-objects/slots.ts";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { SmallPool } from "./pool-in-small.ts";
import { entryOf } from "./room-model.ts";
import { expectThat } from "./same.ts";
import { attempt, CLEAN, UNCLEAN } from "./slots-model.ts";

const NOW = 1_000_000;
const SERVICE = "portrait";
const DRAIN_MS = 60_000;
/** Most waiters that one search of the line looks at. */
const LOOKS_MAX = 64;

// 3372a2ea0
test("a slot is taken by the claim itself, before anything runs", () => {
  const slots = new Slots();
  const outcomes = Array.from({ length: 170 }, (_, i) => "no" in slots.claim(attempt(`a${i}`), 2, DRAIN_MS, NOW));
  expect(outcomes.filter((refused) => !refused)).toHaveLength(2);
});

test("a run that its caller abandoned keeps its slot until it has ended", () => {
  const slots = new Slots();
  slots.claim(attempt("one"), 1, DRAIN_MS, NOW);
  slots.release(1, "one", UNCLEAN, NOW);
  expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toEqual({ no: "full" });
});

/** A pool whose cards have reported that they are free. */
function poolOf(cards: number, slots: number): SmallPool {
  const pool = new SmallPool({ cards, slots, concurrent: 1_000 });
  pool.settle();
  return pool;
}

const whoRuns = (pool: SmallPool) => pool.running.map(({ name }) => name);

// 5541d4995
test("a request that arrives while the last run ends is served, in whichever order the messages come", () => {
  const picks = fc.array(fc.nat({ max: 9 }), { maxLength: 30, size: "max" });
  const property = fc.property(picks, fc.nat({ max: 30 }), (list, comesAfter) => {
    const pool = poolOf(1, 1);
    pool.come("one", "a");
    for (const [i, pick] of list.entries()) {
      pool.post.deliver(pick, "arrives");
      pool.running.find(({ name }) => name === "one")?.end("ok");
      if (i === comesAfter) pool.come("two", "b");
    }
    if (comesAfter >= list.length) pool.come("two", "b");
    pool.settle();
    pool.running.find(({ name }) => name === "one")?.end("ok");
    pool.settle();
    expect(whoRuns(pool)).toEqual(["two"]);
  });
  fc.assert(property, { numRuns: 2_000 });
});

// b11495652
test("as many requests are served as slots became free, even if all became free in the same instant", () => {
  // With all slots on one card, one report covers many ends.
  for (const [cards, slots] of [
    [6, 2],
    [1, 12],
  ] as const) {
    const pool = poolOf(cards, slots);
    for (let i = 0; i < 112; i++) pool.come(`request ${i}`, `tenant ${i % 7}`);
    pool.settle();
    expect(pool.running).toHaveLength(12);
    while (pool.open.length > 12) {
      for (const caller of pool.running) caller.end("ok");
      pool.settle();
      expect(pool.running).toHaveLength(Math.min(12, pool.open.length));
    }
  }
});

// dc9ce9c26
test("a slot that has drained goes to the waiting request, without any other event", () => {
  const pool = poolOf(1, 1);
  pool.come("one", "a");
  pool.settle();
  pool.running[0]?.end("quiet");
  pool.come("two", "a");
  pool.settle();
  expect(whoRuns(pool)).toEqual([]);
  for (const card of pool.cards) pool.rest(card);
  pool.settle();
  expect(whoRuns(pool)).toEqual(["two"]);
});

// dc9ce9c26
test("a slot whose drain ends by time alone goes to the waiting request", () => {
  const pool = poolOf(1, 1);
  pool.come("one", "a");
  pool.settle();
  pool.running[0]?.end("vanish");
  pool.settle();
  // Not at a time when the card is asked again.
  pool.settle(2_350);
  pool.come("two", "a");
  // A GPU does not work on for longer than its slot drains.
  pool.cards[0]?.working.clear();
  const holds = (): boolean => pool.cards[0]?.book.leases.some(({ attempt: name }) => name === "one") ?? false;
  let drainedMs = 0;
  for (; holds() && drainedMs < 2 * DRAIN_MS; drainedMs += 50) pool.settle(50);
  expect([whoRuns(pool), drainedMs < DRAIN_MS]).toEqual([["two"], true]);
});

// 53f52e67a, ca275d99c
test("when the last card goes down, every waiting request is refused once and none is queued again", () => {
  const pool = poolOf(1, 2);
  for (let i = 0; i < 10; i++) pool.come(`request ${i}`, "a");
  const [card] = pool.cards;
  if (card?.book.config == null) throw new Error("there is no card");
  // Its pool has not heard of it when the first claims arrive.
  card.book.config = { ...card.book.config, version: 2, state: "disabled" };
  const claims = () => card.book.counters.refused;
  pool.settle(6_000);
  expect(pool.callers.map(({ words }) => words)).toEqual(pool.callers.map(() => ["no_healthy_card"]));
  expect([pool.desk.queued, claims() <= 10]).toEqual([0, true]);
});

// ca275d99c
test("a card that keeps refusing claims is asked once per report, not endlessly", () => {
  const pool = poolOf(1, 1);
  const [card] = pool.cards;
  if (card?.book.config == null) throw new Error("there is no card");
  // It knows nothing of the service, and questions to it are lost.
  card.book.config = { ...card.book.config, version: 2, listings: [] };
  pool.come("one", "a");
  for (let i = 0; i < 500 && pool.post.size > 0; i++) {
    pool.post.cut(`question to ${card.name}`);
    pool.post.deliver(0, "arrives");
  }
  expectThat(pool.post.size === 0, "messages go round and round");
  expect(card.book.counters.refused).toBeLessThanOrEqual(2);
});

// 099c1b244
test("the length of the line is 0 when every request has left", () => {
  const pool = poolOf(1, 1);
  pool.come("busy", "a");
  pool.settle();
  for (let i = 0; i < 100; i++) pool.come(`${i}`, `t${i % 3}`, { fingerprint: i % 2 === 0 ? null : `same ${i % 4}` });
  pool.settle();
  expect(pool.desk.queued).toBe(100);
  const waiters = pool.open.filter(({ run }) => run === null);
  // Requests that have followers leave first, then the followers.
  for (const caller of [...waiters.slice(0, 50), ...waiters.slice(50).toReversed()]) caller.leave();
  pool.settle();
  expect([pool.desk.queued, pool.desk.oldestAt, [...pool.desk.tickets].length]).toEqual([0, null, 1]);
  const room = new WaitingRoom();
  for (let i = 0; i < 100; i++) room.enter(entryOf(`${i}`, `t${i % 3}`));
  for (let i = 0; i < 100; i++) {
    expect(room.leave(`${i}`)).toBe(true);
    expect(room.leave(`${i}`)).toBe(false);
  }
  expect([room.length, room.lengthOf("t0"), room.oldestAt(), room.next(() => true)]).toEqual([0, 0, null, null]);
});

// e9d34f991
test("a refused claim changes nothing", () => {
  const slots = new Slots();
  slots.claim(attempt("one"), 1, DRAIN_MS, NOW);
  const before = JSON.stringify([slots.held, slots.lastNumber]);
  for (let i = 0; i < 10; i++) expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toEqual({ no: "full" });
  expect(JSON.stringify([slots.held, slots.lastNumber])).toBe(before);
  slots.release(1, "one", CLEAN, NOW);
  expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toMatchObject({ lease: { number: 2 } });
});

// ddab05b98
test("a search of a long line in which nothing fits ends after a bounded number of looks", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 10_000; i++) room.enter(entryOf(`${i}`, `t${i % 50}`));
  let looks = 0;
  const nothing = room.next(() => {
    looks += 1;
    return null;
  });
  expect([nothing, looks <= LOOKS_MAX]).toEqual([null, true]);
});

// 87154e301
test("a request that leaves while it is granted a slot costs its tenant nothing", () => {
  const room = new WaitingRoom();
  for (const name of ["a1", "a2", "b1", "b2"]) room.enter(entryOf(name, name.slice(0, 1)));
  const next = room.next(() => true);
  expect(next?.entry.attempt).toBe("a1");
  room.leave("a1");
  room.grant("a1");
  const order = ["", "", ""].map(() => {
    const name = room.next(() => true)?.entry.attempt ?? "";
    room.grant(name);
    return name;
  });
  expect(order).toEqual(["a2", "b1", "b2"]);
});

// 87154e301
test("if a request leaves at any point of being offered a slot, the slot goes to the next request", () => {
  for (let arrived = 0; arrived < 12; arrived++) {
    const pool = poolOf(1, 1);
    pool.come("busy", "a");
    pool.settle();
    const waiter = pool.come("waiter", "a");
    pool.come("next", "a");
    pool.settle();
    pool.running[0]?.end("ok");
    for (let i = 0; i < arrived; i++) pool.post.deliver(0, "arrives");
    if (waiter.run !== null) continue;
    waiter.leave();
    pool.settle();
    expect([whoRuns(pool), waiter.words], `${arrived}`).toEqual([["next"], [waiter.words[0]]]);
  }
});

// 6be02d1c6
test("choosing among 1,000 full cards finds none, and does so fast", () => {
  const cards = new Cards(SERVICE);
  const names = Array.from({ length: 1_000 }, (_, i) => `card ${i}`);
  cards.configure(
    names.map((card) => ({ card, weight: 1 })),
    NOW,
  );
  const gates = { [SERVICE]: { state: "closed" as const, untilAt: 0, reason: null } };
  for (const card of names) cards.report(cardReport(card, { slots: 0, gates }), NOW);
  const before = performance.now();
  for (let i = 0; i < 10_000; i++) expect(cards.best([], NOW)).toBeNull();
  expect(performance.now() - before).toBeLessThan(5_000);
});
