/** The rules of a Pool over its Cards, one by one: shares, caps, shared runs, failing cards, retries. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Priority } from "../../durable-objects/pool-protocol.ts";
import { type Sizes, SmallPool } from "./pool-in-small.ts";
import { expectThat } from "./same.ts";
import type { How } from "./small-caller.ts";
import { LIMITS } from "./small-card.ts";
import { chosen, idle, play, sizes, steps, wind } from "./small-steps.ts";

const pick = fc.nat({ max: 50 });

function poolOf(cards: number, slots: number, more: Partial<Sizes> = {}): SmallPool {
  const pool = new SmallPool({ cards, slots, concurrent: 1_000, ...more });
  pool.settle();
  return pool;
}

test("tenants that always have a request in line get starts in proportion to their weights", () => {
  const weights = fc.tuple(
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 4 }),
  );
  const property = fc.property(sizes, weights, fc.array(pick, { maxLength: 60, size: "max" }), (size, list, ends) => {
    const pool = poolOf(size.cards, size.slots);
    const hindrance = pool.cards.map(() => "first");
    for (const [i] of hindrance.entries()) for (let s = 0; s < size.slots; s++) pool.come(`first ${i} ${s}`, "first");
    pool.settle();
    const tenants = list.map((weight, i) => ({ tenant: `tenant ${i}`, weight, starts: 0 }));
    for (let i = 0; i < 80; i++) {
      for (const { tenant, weight } of tenants) pool.come(`${i} of ${tenant}`, tenant, { weight });
    }
    pool.settle();
    for (const end of ends) {
      chosen(pool.running, end)?.end("ok");
      pool.settle();
      for (const one of tenants)
        one.starts = pool.starts.filter(({ caller }) => caller.entry.tenant === one.tenant).length;
      for (const a of tenants) {
        for (const b of tenants) {
          const apart = Math.abs(a.starts / a.weight - b.starts / b.weight);
          expectThat(
            apart <= 1 / a.weight + 1 / b.weight + 1e-9,
            `${a.starts} of ${a.weight}, ${b.starts} of ${b.weight}`,
          );
        }
      }
    }
  });
  fc.assert(property, { numRuns: 150 });
});

test("a tenant's share of slots does not depend on how many requests it sends", () => {
  const pool = poolOf(1, 2);
  for (let i = 0; i < 200; i++) pool.come(`much ${i}`, "much");
  for (let i = 0; i < 20; i++) pool.come(`little ${i}`, "little");
  for (let i = 0; i < 40; i++) {
    pool.settle();
    pool.running[0]?.end("ok");
  }
  const little = pool.starts.slice(2, 40).filter(({ caller }) => caller.entry.tenant === "little").length;
  expect(little).toBeGreaterThanOrEqual(18);
});

test("within a tenant, starts follow priority, then arrival time, in whatever order requests came in", () => {
  const comers = fc.array(fc.record({ rank: fc.nat({ max: 2 }), arrivedAt: fc.nat({ max: 1_000 }) }), {
    minLength: 1,
    maxLength: 30,
    size: "max",
  });
  const property = fc.property(comers, (list) => {
    const pool = poolOf(1, 1);
    pool.come("first", "a");
    pool.settle();
    for (const [i, { rank, arrivedAt }] of list.entries()) {
      const priority = (["high", "normal", "low"] as const)[rank] ?? "normal";
      pool.come(`${i}`, "a", { priority, arrivedAt });
    }
    wind(pool);
    const order = pool.starts.slice(1).map(({ caller }) => Number(caller.name));
    const place = (i: number): number => (list[i]?.rank ?? 0) * 10_000 + (list[i]?.arrivedAt ?? 0);
    const wanted = list.map((_, i) => i).toSorted((a, b) => place(a) - place(b) || a - b);
    expect(order).toEqual(wanted);
  });
  fc.assert(property, { numRuns: 300 });
});

test("without late messages a tenant never runs more than its concurrent number and never waits below it", () => {
  const property = fc.property(
    sizes,
    fc.array(fc.record({ who: fc.nat({ max: 2 }), end: fc.boolean() })),
    (size, list) => {
      const pool = new SmallPool(size);
      pool.settle();
      for (const [i, { who, end }] of list.entries()) {
        pool.come(`request ${i}`, `tenant ${who}`);
        pool.settle();
        if (end) chosen(pool.running, i)?.end("ok");
        pool.settle();
        for (const tenant of ["tenant 0", "tenant 1", "tenant 2"]) {
          const running = pool.running.filter(({ entry }) => entry.tenant === tenant).length;
          expectThat(running <= size.concurrent, `${running} of ${size.concurrent} run`);
        }
        expect(idle(pool)).toEqual([]);
      }
    },
  );
  fc.assert(property, { numRuns: 500 });
});

/** How many identical requests run now, and how often one was started. */
function flights(pool: SmallPool): { now: number; begun: number } {
  return { now: pool.running.length, begun: pool.starts.length };
}

test("identical requests share one run; if it is lost there is one more, and every caller gets an outcome", () => {
  const ways = fc.array(fc.constantFrom<How>("ok", "vanish", "quiet"), { minLength: 1, maxLength: 3 });
  const property = fc.property(
    fc.integer({ min: 1, max: 8 }),
    ways,
    fc.array(pick, { maxLength: 60 }),
    (many, list, order) => {
      const pool = poolOf(2, 2);
      for (let i = 0; i < many; i++) pool.come(`asker ${i}`, `tenant ${i % 2}`, { fingerprint: "same" });
      for (const one of order) {
        pool.post.deliver(one, "arrives");
        expectThat(flights(pool).now <= 1, "the same runs twice at once");
      }
      let lost = 0;
      for (const how of list) {
        pool.settle();
        if (pool.running.length === 0) break;
        // A caller that vanishes takes its run with it, and so may the next one: that says nothing of the run.
        if (how === "vanish") lost++;
        pool.running[0]?.end(how);
        for (const one of order) {
          pool.post.deliver(one, "arrives");
          expectThat(flights(pool).now <= 1, "the same runs twice at once");
        }
        if (how === "ok") break;
      }
      wind(pool);
      for (const { name, words } of pool.callers) expectThat(words.length === 1, `${name}: ${words.join()}`);
      const quiet = list.filter((how) => how === "quiet").length;
      const { begun } = flights(pool);
      expectThat(begun <= 1 + Math.min(lost, 1) + quiet, `begun ${begun} times, lost ${lost}, given up ${quiet}`);
    },
  );
  fc.assert(property, { numRuns: 500 });
});

test("with caps and priorities, identical requests never run twice at once, and no slot stays idle for them", () => {
  const step = fc.record({
    who: fc.nat({ max: 2 }),
    priority: fc.constantFrom<Priority>("high", "normal", "low"),
    same: fc.constantFrom(null, "one", "other"),
    deliver: fc.array(pick, { maxLength: 8 }),
    end: fc.option(fc.tuple(pick, fc.constantFrom<How>("ok", "ok", "failed", "quiet"))),
    leave: fc.option(pick, { freq: 9 }),
  });
  const property = fc.property(sizes, fc.array(step, { maxLength: 40, size: "max" }), (size, list) => {
    const pool = new SmallPool(size);
    pool.settle();
    const look = (): void => {
      const running = pool.running.flatMap(({ entry }) => entry.fingerprint ?? []);
      expectThat(new Set(running).size === running.length, `the same runs twice at once: ${running.join()}`);
    };
    for (const [i, { who, priority, same, deliver, end, leave }] of list.entries()) {
      const concurrent = Math.max(1, size.concurrent - who);
      pool.come(`request ${i}`, `tenant ${who}`, { concurrent, priority, fingerprint: same });
      if (end !== null) chosen(pool.running, end[0])?.end(end[1]);
      if (leave !== null) chosen(pool.open, leave)?.leave();
      for (const one of deliver) {
        pool.post.deliver(one, "arrives");
        look();
      }
      if (i % 4 !== 3) continue;
      pool.settle();
      look();
      expect(idle(pool)).toEqual([]);
    }
    wind(pool);
    for (const { name, words } of pool.callers) expectThat(words.length === 1, `${name}: ${words.join()}`);
  });
  fc.assert(property, { numRuns: 500 });
});

test("a hundred identical requests start once, again when the leader vanishes, and then all get a failure", () => {
  const pool = poolOf(2, 2);
  for (let i = 0; i < 100; i++) pool.come(`asker ${i}`, "a", { fingerprint: "same" });
  pool.settle();
  expect(flights(pool)).toEqual({ now: 1, begun: 1 });
  pool.running[0]?.end("vanish");
  pool.settle();
  expect(flights(pool)).toEqual({ now: 1, begun: 2 });
  pool.running[0]?.end("vanish");
  pool.settle();
  expect(flights(pool)).toEqual({ now: 0, begun: 2 });
  expect(pool.callers.filter(({ words }) => words.join() === "told failed")).toHaveLength(98);
  expect(pool.desk.queued).toBe(0);
});

test("retries at another card stay within the budget: twenty saved, a fifth of the requests, one a second", () => {
  const property = fc.property(fc.array(fc.tuple(pick, fc.boolean()), { minLength: 50, maxLength: 150 }), (list) => {
    const pool = poolOf(4, 3);
    for (const card of pool.cards)
      for (const listing of card.book.config?.listings ?? []) Object.assign(listing.breaker, { maxFails: 1_000 });
    for (const [i, [end, pass]] of list.entries()) {
      pool.come(`request ${i}`, "a");
      pool.settle();
      chosen(pool.running, end)?.end("failed");
      pool.settle();
      if (pass) pool.clock.pass(100);
      const allowed = 20 + 0.2 * pool.desk.admitted + pool.clock.passed / 1000;
      expectThat(pool.retries <= allowed, `${pool.retries} retries of ${allowed}`);
    }
    expect(pool.retries).toBeGreaterThanOrEqual(20);
  });
  fc.assert(property, { numRuns: 30 });
});

test("a failing card gets max_fails starts within fail_timeout, one forced trial, and then only trials", () => {
  const step = fc.record({ some: pick, ends: fc.boolean(), pass: fc.boolean(), late: fc.boolean() });
  const cards = fc.integer({ min: 1, max: 3 });
  const property = fc.property(cards, fc.array(step, { maxLength: 60, size: "max" }), (count, list) => {
    const pool = poolOf(count, 3);
    const sick = pool.cards[0];
    for (const [i, { some, ends, pass, late }] of list.entries()) {
      for (let n = 0; n < 2; n++) pool.come(`request ${i} ${n}`, "a");
      if (late) for (let n = 0; n < 9; n++) pool.post.deliver(some + n, "arrives");
      else pool.settle();
      const caller = chosen(pool.running, some);
      if (ends) caller?.end(caller.run?.card === sick ? "failed" : "ok");
      if (pass) pool.clock.pass(1_500);
      const since = pool.clock.passed - LIMITS.failTimeoutMs;
      const recent = pool.starts.filter(({ card, at }) => card === sick && at > since).length;
      expectThat(recent <= LIMITS.maxFails + 1, `${recent} starts within ${LIMITS.failTimeoutMs} ms`);
    }
  });
  fc.assert(property, { numRuns: 600 });
});

test("when many cards fail at once, half of them stay in use until a trial has failed", () => {
  const pool = poolOf(4, 1);
  for (let i = 0; i < 60; i++) pool.come(`request ${i}`, "a");
  const out = (): number =>
    pool.cards.filter(({ book }) => book.report(0, 0, pool.clock.now()).gates["portrait"]?.state === "open").length;
  for (let i = 0; i < 40 && pool.desk.cards.health(pool.clock.now()) !== "none"; i++) {
    pool.settle();
    for (const caller of pool.running) caller.end("failed");
  }
  pool.settle();
  // Two are ejected on suspicion; each of the other two had to run a trial, and failed it.
  expect(out()).toBe(4);
  const proven = pool.cards.filter(({ book }) => book.report(0, 0, pool.clock.now()).gates["portrait"]?.proven);
  expect(proven.length).toBeGreaterThanOrEqual(2);
  expect(pool.starts.length).toBeLessThanOrEqual(4 * LIMITS.maxFails + proven.length);
});

test("a request that left never starts", () => {
  const property = fc.property(sizes, steps, (size, list) => {
    const pool = new SmallPool(size);
    play(pool, list);
    const left = pool.callers.filter(({ words }) => words.includes("left"));
    const begun = pool.starts.length;
    wind(pool);
    for (const { caller } of pool.starts.slice(begun)) expectThat(!left.includes(caller), `${caller.name} left`);
  });
  fc.assert(property, { numRuns: 500 });
});
