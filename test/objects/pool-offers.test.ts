import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { attemptAt, claim, CLEAN, eventually, fresh, reconfigure, sleep } from "./objects.ts";
import {
  Caller,
  enter,
  enterMany,
  expectHeld,
  held,
  makePool,
  queued,
  reconfigurePool,
  start,
  startMany,
} from "./pools.ts";

/** As in pool.ts: how long an offer is valid. */
const OFFER_MS = 5_000;

test("a request enters, is offered a slot, claims it, runs, releases it and finishes", async () => {
  const pool = await makePool();
  const caller = await enter(pool);
  const running = await caller.start();
  expect(running.card).toBe(pool.cards[0]?.id);
  await eventually(async () => expect(await held(pool)).toEqual([caller.entry.attempt]));
  expect(await pool.stub.status()).toMatchObject({ queued: 0, admitted: 1 });
  await running.end();
  await expectHeld(pool, 0);
  expect(await pool.stub.status()).toMatchObject({ queued: 0, admitted: 1, serviceMs: 20, refused: {} });
});

test("Every object method is idempotent per attempt id: calling it twice with the same id has the effect of one call.", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const caller = await enter(pool);
  const twin = new Caller(pool, caller.entry);
  await twin.enter();
  expect(await twin.offer()).toBe(await caller.offer());
  expect(await queued(pool)).toBe(0);
  // The first reply was lost: its stub is disposed, but the ticket keeps its place.
  caller.vanish();
  const running = await twin.start();
  await twin.ticket.claimed(running.number);
  expect(await pool.stub.status()).toMatchObject({ admitted: 1 });
  const next = await enter(pool);
  await running.end();
  expect(await next.offer()).toBe(running.card);
});

test("An offered slot that is not claimed goes to the next ticket. No wake-up is lost: while a slot is free, no eligible ticket waits.", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const silent = await enter(pool);
  const card = await silent.offer();
  const next = await enter(pool);
  const from = performance.now();
  const running = await next.start();
  expect(performance.now() - from).toBeGreaterThan(OFFER_MS - 500);
  expect(performance.now() - from).toBeLessThan(OFFER_MS + 1_000);
  // The ticket that missed its offer regains its place when it asks again, and it arrived first.
  const later = await enter(pool);
  const asking = silent.offer();
  await eventually(async () => expect(await queued(pool)).toBe(2));
  await running.end();
  expect(await asking).toBe(card);
  expect(await queued(pool)).toBe(1);
  silent.vanish();
  expect(await later.offer()).toBe(card);
});

test("a claim that takes longer than its offer still counts as a run, and takes no second slot", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const slow = await enter(pool);
  const card = await slow.offer();
  await sleep(OFFER_MS + 200);
  const running = await slow.start(card);
  const [second, third] = await enterMany(pool, 2);
  if (second === undefined || third === undefined) throw new Error("two callers");
  expect((await second.start()).card).not.toBe(card);
  expect(await queued(pool)).toBe(1);
  expect(await pool.stub.status()).toMatchObject({ admitted: 2 });
  await running.end();
  expect(await third.offer()).toBe(card);
});

test("a declined claim corrects the Pool's counts, and the request is offered a free slot elsewhere", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const [first, second] = pool.cards;
  if (first === undefined || second === undefined) throw new Error("two cards");
  const caller = await enter(pool);
  const card = await caller.offer();
  const other = card === first.id ? second.id : first.id;
  await claim(env.CARD.getByName(card), attemptAt(pool.service));
  await caller.ticket.declined(card, "full");
  expect(await caller.offer()).toBe(other);
});

test("after a mistaken decline the Pool asks the Card and offers the slot again", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const caller = await enter(pool);
  const card = await caller.offer();
  await caller.ticket.declined(card, "full");
  const running = await caller.start();
  expect(running.card).toBe(card);
});

test("two pools that share a card share its slots", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const card = pool.cards[0];
  if (card === undefined) throw new Error("one card");
  const other = await makePool([], { cards: [{ card: card.id, weight: 1 }] });
  const listings = card.config.listings.flatMap((one) => [one, { ...one, service: other.service }]);
  await reconfigure(card, { listings });
  await eventually(async () => expect((await other.stub.status()).reports).toMatchObject([{ version: 2 }]));
  const running = await start(pool);
  await expectHeld(other, 1);
  const waiting = await enter(other);
  expect(await queued(other)).toBe(1);
  await running.end();
  expect(await waiting.offer()).toBe(card.id);
});

test("a slot that became free while nobody waited is offered at once", async () => {
  const pool = await makePool([{ slots: 1 }]);
  for (let i = 0; i < 20; i++) {
    const running = await start(pool);
    await running.end();
    const next = await enter(pool);
    expect(await next.replyAtOnce()).toMatchObject({ kind: "offer", card: running.card });
    await (await next.start(running.card)).end();
  }
});

test("twelve runs that end together let twelve of a hundred waiting requests start", async () => {
  const pool = await makePool(Array.from({ length: 6 }, () => ({})));
  const running = await startMany(pool, 12);
  const waiting = await enterMany(pool, 100);
  expect(await queued(pool)).toBe(100);
  const from = performance.now();
  const started = waiting.slice(0, 12).map((caller) => caller.start());
  await Promise.all(running.map((run) => run.end()));
  await Promise.all(started);
  expect(performance.now() - from).toBeLessThan(1_000);
  expect(await queued(pool)).toBe(88);
  await expectHeld(pool, 12);
  expect((await pool.stub.status()).admitted).toBe(24);
});

test("two hundred requests over twelve slots: no slot is used twice, and every request runs", async () => {
  const pool = await makePool(Array.from({ length: 6 }, () => ({})));
  const callers = await enterMany(pool, 200);
  let running = 0;
  let most = 0;
  await Promise.all(
    callers.map(async (caller) => {
      const run = await caller.start();
      most = Math.max(most, ++running);
      await sleep(1);
      running--;
      await run.end();
    }),
  );
  expect(most).toBe(12);
  expect(await pool.stub.status()).toMatchObject({ queued: 0, admitted: 200, refused: {} });
  await expectHeld(pool, 0);
});

test("a caller that disconnects while waiting leaves the line at once and is recorded as canceled", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const tenant = fresh("tenant");
  const running = await start(pool);
  const caller = new Caller(pool, { tenant });
  const rate = { requestsPerMinute: 60, burst: 10, ownRate: false, quota: { results: null, costMilli: null } };
  await env.TENANT.getByName(tenant).admit(
    {
      id: caller.entry.request,
      clientId: null,
      service: pool.service,
      key: "key",
      fingerprint: null,
      hits: false,
      results: 1,
      costMilli: 1_000,
    },
    rate,
  );
  await caller.enter();
  const next = await enter(pool);
  expect(await queued(pool)).toBe(2);
  caller.vanish();
  await eventually(async () => expect(await queued(pool)).toBe(1));
  await eventually(async () =>
    expect(await env.TENANT.getByName(tenant).request(caller.entry.request)).toMatchObject({
      state: "canceled",
      status: 499,
    }),
  );
  await running.end();
  expect(await next.offer()).toBe(running.card);
});

test("when a caller disconnects with an unclaimed offer, the next one gets the slot at once", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const gone = await enter(pool);
  await gone.offer();
  const next = await enter(pool);
  const asking = next.replyAtOnce();
  gone.vanish();
  expect(await asking).toMatchObject({ kind: "offer" });
});

test("when a caller gives up with an unclaimed offer, the next one gets the slot at once", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const failed = await enter(pool);
  await failed.offer();
  const next = await enter(pool);
  const asking = next.replyAtOnce();
  await failed.ticket.finished({ kind: "failed", reason: "internal" }, null);
  expect(await asking).toMatchObject({ kind: "offer" });
});

test("a request that retries on another card keeps its arrival time", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const first = await enter(pool);
  const failing = await first.start();
  await start(pool);
  const waiting = await enter(pool);
  await env.CARD.getByName(failing.card).release(failing.number, first.entry.attempt, CLEAN);
  await waiting.start();
  const attempt = fresh("att");
  await first.ticket.retry(attempt, [failing.card]);
  await first.ticket.retry(attempt, [failing.card]);
  const later = await enter(pool);
  expect(await queued(pool)).toBe(2);
  for (const card of pool.cards) {
    const { held: now } = await card.stub.report();
    if (card.id !== failing.card) for (const lease of now) await card.stub.release(lease.number, lease.attempt, CLEAN);
  }
  expect(await first.offer()).not.toBe(failing.card);
  expect(await queued(pool)).toBe(1);
  later.vanish();
});

test("a run on a card removed from the pool no longer counts toward its tenant's cap", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const running = await start(pool, { concurrent: 1 });
  await expectHeld(pool, 1);
  const waiting = await enter(pool, { concurrent: 1 });
  expect(await queued(pool)).toBe(1);
  const rest = pool.config.cards.filter(({ card }) => card !== running.card);
  await reconfigurePool(pool, { cards: rest });
  expect(await waiting.replyAtOnce()).toMatchObject({ kind: "offer", card: rest[0]?.card });
});
