import { expect, test } from "vitest";
import { eventually, FAILED, listing, reconfigure, run, attemptAt } from "./objects.ts";
import { enter, enterMany, expectHeld, makePool, queued, reconfigurePool, start, startMany } from "./pools.ts";

test("a tenant at its cap is passed over until one of its runs ends", async () => {
  const pool = await makePool([{ slots: 3 }]);
  const running = await startMany(pool, 2, { tenant: "capped", concurrent: 2 });
  const waiting = await enter(pool, { tenant: "capped", concurrent: 2 });
  expect(await queued(pool)).toBe(1);
  const other = await enter(pool, { tenant: "other" });
  expect(await other.replyAtOnce()).toMatchObject({ kind: "offer" });
  expect(await queued(pool)).toBe(1);
  await running[0]?.end();
  expect(await waiting.offer()).toBe(pool.cards[0]?.id);
});

test("unclaimed offers count toward a tenant's cap", async () => {
  const pool = await makePool(Array.from({ length: 6 }, () => ({})));
  const callers = await enterMany(pool, 30, { concurrent: 4 });
  expect(await queued(pool)).toBe(26);
  const running = await Promise.all(callers.slice(0, 4).map((caller) => caller.start()));
  expect(await queued(pool)).toBe(26);
  for (const one of running) await one.end();
  const next = await Promise.all(callers.slice(4, 8).map((caller) => caller.start()));
  expect(next).toHaveLength(4);
  expect(await queued(pool)).toBe(22);
});

test("A tenant's waiting time depends on how many tenants ask, not on how many requests each of them sends.", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const order: string[] = [];
  const first = await start(pool, { tenant: "z" });
  const greedy = await enterMany(pool, 60, { tenant: "greedy" });
  const modest = await enterMany(pool, 2, { tenant: "modest" });
  const served = [...greedy, ...modest].map(async (caller) => {
    const running = await caller.start();
    order.push(caller.entry.tenant);
    await running.end();
  });
  await first.end();
  await Promise.all(served);
  expect(order).toHaveLength(62);
  expect(order.slice(0, 4).toSorted()).toEqual(["greedy", "greedy", "modest", "modest"]);
});

test("within a tenant, tickets are served by priority, then by arrival", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const first = await start(pool);
  const order: string[] = [];
  const serve = async (name: string, more: object) => {
    const caller = await enter(pool, more);
    return async () => {
      const running = await caller.start();
      order.push(name);
      await running.end();
    };
  };
  const now = Date.now();
  const all = [
    await serve("low", { priority: "low", arrivedAt: now }),
    await serve("normal, late", { arrivedAt: now + 20 }),
    await serve("normal, early", { arrivedAt: now + 10 }),
    await serve("high", { priority: "high", arrivedAt: now + 30 }),
  ];
  const served = all.map((one) => one());
  await first.end();
  await Promise.all(served);
  expect(order).toEqual(["high", "normal, early", "normal, late", "low"]);
});

test("a full waiting room refuses; a tenant below its share displaces the longest line's newest ticket", async () => {
  const pool = await makePool([{ slots: 1 }], { queue: { max: 3, timeoutMs: 60_000 } });
  await start(pool, { tenant: "z" });
  const greedy = await enterMany(pool, 3, { tenant: "greedy" });
  const refused = await enter(pool, { tenant: "greedy" });
  expect(await refused.refusal()).toMatchObject({ reason: "queue_full", length: 3, max: 3 });
  const modest = await enter(pool, { tenant: "modest" });
  expect(await greedy[2]?.refusal()).toMatchObject({ reason: "queue_full" });
  expect(await queued(pool)).toBe(3);
  expect((await pool.stub.status()).refused).toEqual({ queue_full: 2 });
  modest.vanish();
  await eventually(async () => expect(await queued(pool)).toBe(2));
});

test("a tenant stays at its cap after it displaces another tenant's ticket", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }], { queue: { max: 2, timeoutMs: 60_000 } });
  const own = await start(pool, { tenant: "modest", concurrent: 1 });
  for (let i = 0; i < 5; i++) await (await start(pool, { tenant: "z" })).end();
  const other = await start(pool, { tenant: "z" });
  const greedy = await enterMany(pool, 2, { tenant: "greedy" });
  const modest = await enter(pool, { tenant: "modest", concurrent: 1 });
  expect(await greedy[1]?.refusal()).toMatchObject({ reason: "queue_full" });
  await other.end();
  await (await greedy[0]?.start())?.end();
  await expectHeld(pool, 1);
  // A slot is free, but the modest tenant is at its cap.
  expect(await queued(pool)).toBe(1);
  await own.end();
  expect(await modest.replyAtOnce()).toMatchObject({ kind: "offer" });
});

test("a tenant at its limit of waiting requests is refused, and other tenants are not", async () => {
  const pool = await makePool([{ slots: 1 }]);
  await start(pool);
  await enterMany(pool, 2, { waiting: 2 });
  const third = await enter(pool, { waiting: 2 });
  expect(await third.refusal()).toMatchObject({ reason: "concurrency", waiting: 2, max: 2 });
  await enter(pool, { tenant: "other", waiting: 2 });
  expect(await queued(pool)).toBe(3);
});

test("a request is refused at the queue's timeout, or at its own deadline if that is earlier", async () => {
  const pool = await makePool([{ slots: 1 }], { queue: { max: 10, timeoutMs: 300 } });
  await start(pool);
  const from = performance.now();
  const patient = await enter(pool);
  const hasty = await enter(pool, { deadlineAt: Date.now() + 100 });
  expect(await hasty.refusal()).toMatchObject({ reason: "queue_timeout" });
  expect(performance.now() - from).toBeLessThan(280);
  expect(await patient.refusal()).toMatchObject({ reason: "queue_timeout" });
  expect(performance.now() - from).toBeGreaterThan(280);
  expect(await queued(pool)).toBe(0);
});

test("a paused Pool refuses new requests and keeps its line, which moves on when the Pool resumes", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const running = await start(pool);
  const waiting = await enter(pool);
  await reconfigurePool(pool, { paused: true });
  const late = await enter(pool);
  expect(await late.refusal()).toMatchObject({ reason: "paused" });
  await running.end();
  expect(await queued(pool)).toBe(1);
  await reconfigurePool(pool, { paused: false });
  expect(await waiting.replyAtOnce()).toMatchObject({ kind: "offer" });
});

test("when no card is healthy any more, waiting and new requests are refused at once", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  await start(pool);
  const waiting = await enterMany(pool, 3);
  await reconfigure(card, { state: "disabled" });
  for (const caller of waiting)
    expect(await caller.replyAtOnce()).toMatchObject({ refusal: { reason: "no_healthy_card" } });
  const late = await enter(pool);
  expect(await late.refusal()).toMatchObject({ reason: "no_healthy_card" });
  expect(await queued(pool)).toBe(0);
});

test("an ejected card is tried by one request when its time is over", async () => {
  const breaker = { maxFails: 1, failTimeoutMs: 400 };
  const pool = await makePool([{ slots: 2 }]);
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  await reconfigure(card, { listings: [listing(pool.service, { breaker })] });
  await run(card.stub, attemptAt(pool.service), FAILED);
  // The only card is not ejected before a pressed request has also failed on it.
  await run(card.stub, { ...attemptAt(pool.service), pressed: true }, FAILED);
  await eventually(async () => {
    const early = await enter(pool);
    const reply = await early.reply();
    early.vanish();
    expect(reply).toMatchObject({ refusal: { reason: "no_healthy_card", cause: "origin_status" } });
  });
  await scheduler.wait(breaker.failTimeoutMs);
  const trial = await enter(pool);
  const second = await enter(pool);
  const running = await trial.start();
  expect(await second.reply()).toMatchObject({ refusal: { reason: "no_healthy_card" } });
  await running.end();
  await startMany(pool, 2);
});

test("a Pool whose configuration is older than the caller's replies that it is behind", async () => {
  const pool = await makePool();
  const early = await enter(pool, { version: 2 });
  expect(await early.reply()).toEqual({ kind: "behind", version: 1 });
  await reconfigurePool(pool, {});
  const again = await enter(pool, { version: 2 });
  expect(await again.reply()).toMatchObject({ kind: "offer" });
});

test("an older or equal configuration of the pool is ignored", async () => {
  const pool = await makePool();
  await reconfigurePool(pool, { paused: true });
  await pool.stub.configure({ ...pool.config, paused: false });
  await pool.stub.configure({ ...pool.config, version: 1, paused: false });
  expect(await pool.stub.status()).toMatchObject({ version: 2, paused: true });
});
