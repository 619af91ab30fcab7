/**
 * The bugs of a queue that is twenty years old (HAProxy, by their commits), each said of our line and slots. What
 * locks and threads did there, messages in any order do here (together.test.ts); these are the bare cases.
 */
import { expect, test } from "vitest";
import { Cards } from "../../durable-objects/choose-card.ts";
import type { CardReport } from "../../durable-objects/protocol.ts";
import { Slots } from "../../durable-objects/slots.ts";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { SmallPool } from "./pool-in-small.ts";
import { entryOf } from "./room-model.ts";
import { attempt, CLEAN, UNCLEAN } from "./slots-model.ts";

const NOW = 1_000_000;
const SERVICE = "portrait";
const DRAIN_MS = 60_000;
/** Waiters that one look at the line takes in, at the most. */
const LOOKS_MAX = 64;

function reportOf(card: string, more: Partial<CardReport> = {}): CardReport {
  const gates = { [SERVICE]: { state: "closed" as const, untilAt: 0, reason: null } };
  return {
    card,
    incarnation: 1,
    seq: 1,
    version: 1,
    slots: 2,
    state: "active",
    lastNumber: 0,
    held: [],
    gates,
    ...more,
  };
}

test("3372a2ea0, served is counted too late: a slot is taken by the claim itself, before anything runs", () => {
  const slots = new Slots();
  const outcomes = Array.from({ length: 170 }, (_, i) => "no" in slots.claim(attempt(`a${i}`), 2, DRAIN_MS, NOW));
  expect(outcomes.filter((refused) => !refused)).toHaveLength(2);
});

test("#2743, a connection that is given up frees its slot early: a caller's end is not the run's end", () => {
  const slots = new Slots();
  slots.claim(attempt("one"), 1, DRAIN_MS, NOW);
  slots.release(1, "one", UNCLEAN, NOW);
  expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toEqual({ no: "full" });
});

test("5541d4995, the last run ends between the look and the wait: whichever comes first, the waiter is served", () => {
  for (const endsFirst of [true, false]) {
    const pool = new SmallPool(1, 1, 5);
    pool.settle();
    pool.enter("one", "a");
    pool.settle();
    if (endsFirst) pool.end("one", true);
    pool.enter("two", "b");
    if (!endsFirst) pool.end("one", true);
    pool.settle();
    expect([...pool.running.keys()], `ends first: ${endsFirst}`).toEqual(["two"]);
  }
});

test("b11495652, the last dequeue is lost: as many are served as slots came free, also all in the same instant", () => {
  const pool = new SmallPool(6, 2, 100);
  pool.settle();
  for (let i = 0; i < 112; i++) pool.enter(`request ${i}`, `tenant ${i % 7}`);
  pool.settle();
  expect(pool.running.size).toBe(12);
  while (pool.served.length < 100) {
    for (const name of pool.running.keys()) pool.end(name, true);
    pool.settle();
    expect(pool.running.size).toBe(Math.min(12, 112 - pool.served.length));
  }
});

test("dc9ce9c26, a slot is freed and the line not woken: a drained slot goes to who waits, without anything else", () => {
  const pool = new SmallPool(1, 1, 5);
  pool.settle();
  pool.enter("one", "a");
  pool.settle();
  pool.end("one", false);
  pool.enter("two", "a");
  pool.settle();
  expect([...pool.running.keys()]).toEqual([]);
  for (const card of pool.cards) pool.drain(card);
  pool.settle();
  expect([...pool.running.keys()]).toEqual(["two"]);
});

test("53f52e67a, ca275d99c, the last card goes down: nobody is put back into the line again and again", () => {
  const room = new WaitingRoom();
  const cards = new Cards(SERVICE);
  cards.configure([{ card: "a", weight: 1 }], NOW);
  cards.report(reportOf("a"), NOW);
  for (let i = 0; i < 10; i++) room.enter(entryOf(`${i}`, "t"));
  cards.report(reportOf("a", { seq: 2, state: "disabled" }), NOW);
  expect(room.next((entry) => cards.best(entry.avoid, NOW))).toBeNull();
  expect(cards.health(NOW)).toBe("none");
  expect(room.length).toBe(10);
});

test("099c1b244, the length is never lowered for those who gave up: it is nothing when everybody has left", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 100; i++) room.enter(entryOf(`${i}`, `t${i % 3}`));
  for (let i = 0; i < 100; i++) {
    expect(room.leave(`${i}`)).toBe(true);
    expect(room.leave(`${i}`)).toBe(false);
  }
  expect([room.length, room.lengthOf("t0"), room.oldestAt(), room.next(() => true)]).toEqual([0, 0, null, null]);
});

test("e9d34f991, an early return keeps the lock: a refused claim leaves nothing behind", () => {
  const slots = new Slots();
  slots.claim(attempt("one"), 1, DRAIN_MS, NOW);
  const before = JSON.stringify([slots.held, slots.lastNumber]);
  for (let i = 0; i < 10; i++) expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toEqual({ no: "full" });
  expect(JSON.stringify([slots.held, slots.lastNumber])).toBe(before);
  slots.release(1, "one", CLEAN, NOW);
  expect(slots.claim(attempt("two"), 1, DRAIN_MS, NOW)).toMatchObject({ lease: { number: 2 } });
});

test("ddab05b98, the one who dequeues starves: a look at a long line that nothing suits ends soon", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 10_000; i++) room.enter(entryOf(`${i}`, `t${i % 50}`));
  let looks = 0;
  const nothing = room.next(() => {
    looks += 1;
    return null;
  });
  expect([nothing, looks <= LOOKS_MAX]).toEqual([null, true]);
});

test("87154e301, a waiter goes while it is being woken: its grant is nobody's and costs its tenant nothing", () => {
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

test("6be02d1c6, the choice turns in circles among full cards: there is none, and it is told at once", () => {
  const cards = new Cards(SERVICE);
  const names = Array.from({ length: 1_000 }, (_, i) => `card ${i}`);
  cards.configure(
    names.map((card) => ({ card, weight: 1 })),
    NOW,
  );
  for (const card of names) cards.report(reportOf(card, { slots: 0 }), NOW);
  const before = performance.now();
  for (let i = 0; i < 10_000; i++) expect(cards.best([], NOW)).toBeNull();
  expect(performance.now() - before).toBeLessThan(5_000);
});
