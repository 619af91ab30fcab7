import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished, test, vi } from "vitest";
import { Card } from "../../durable-objects/card.ts";
import type { CardReport } from "../../durable-objects/card-protocol.ts";
import { cardReport } from "../support/card-report.ts";
import { Pool } from "../../durable-objects/pool.ts";
import { Line } from "../../worker/dispatch.ts";
import {
  attemptAt,
  claim,
  CLEAN,
  evict,
  eventually,
  FAILED,
  failureOf,
  fresh,
  listing,
  reconfigure,
  sleep,
} from "./objects.ts";
import { Caller, crashPool, enter, enterMany, expectHeld, makePool, queued, start, startMany } from "./pools.ts";

/** Longest wait for a Card's answer. */
const ANSWER_MS_MAX = 10_000;
/** The Pool reports a departure after this time. */
const RETURN_MS = 1_000;
/** Attempts of a Card to send its report. */
const TELLS_MAX = 4;

test("The waiting room is bounded in length and in time. Every ticket leaves it exactly once. A ticket that re-enters after a restart of the Pool keeps its place.", async () => {
  const pool = await makePool([{ slots: 1 }], { queue: { max: 3, timeoutMs: 60_000 } });
  const running = await start(pool);
  const waiting = await enterMany(pool, 3);
  await crashPool(pool);
  for (const { ticket } of waiting) expect(await failureOf(() => ticket.offer())).not.toBe("");
  // They return in the wrong order, one of them twice, after a request that arrived later.
  const later = await enter(pool);
  const back = await Promise.all(
    [...waiting.toReversed(), ...waiting.slice(0, 1)].map(({ entry }) => enter(pool, { ...entry, again: true })),
  );
  // One more than the waiting room holds: these three were admitted before the restart.
  expect(await queued(pool)).toBe(4);
  expect(await (await enter(pool)).refusal()).toMatchObject({ reason: "queue_full" });
  const order: string[] = [];
  const served = [...back.slice(0, 3), later].map(async (caller) => {
    const run = await caller.start();
    order.push(caller.entry.attempt);
    await run.end();
  });
  await env.CARD.getByName(running.card).release(running.number, running.attempt, CLEAN);
  await Promise.all(served);
  expect(order).toEqual([...waiting, later].map(({ entry }) => entry.attempt));
  expect(await queued(pool)).toBe(0);
  expect((await pool.stub.status()).admitted).toBe(4);
});

test("an evicted Pool keeps its configuration and its learned service time", async () => {
  const pool = await makePool();
  await (await start(pool)).end();
  await evict(pool.stub);
  expect(await pool.stub.status()).toMatchObject({ version: 1, service: pool.service, serviceMs: 20 });
  await start(pool);
});

/** Delays the reports of one card. */
function slowReports(slow: string, ms: number): void {
  const report = Object.getOwnPropertyDescriptor(Card.prototype, "report")?.value as (
    this: Card,
  ) => Promise<CardReport>;
  const slowed = vi.spyOn(Card.prototype, "report").mockImplementation(async function (this: Card) {
    const said = await report.call(this);
    if (said.card === slow) await sleep(ms);
    return said;
  });
  onTestFinished(() => slowed.mockRestore());
}

test("a restarted Pool hears every Card before it offers a slot to a tenant that may be at its cap", async () => {
  const pool = await makePool([{}, {}, {}, {}]);
  await startMany(pool, 4, { concurrent: 4 });
  await expectHeld(pool, 4);
  const last = pool.cards[3];
  if (last === undefined) throw new Error("four cards");
  slowReports(last.id, 300);
  await crashPool(pool);
  const capped = await enterMany(pool, 4, { concurrent: 4, again: true });
  const other = await enter(pool, { tenant: "other", again: true });
  expect(await other.reply()).toMatchObject({ kind: "offer" });
  expect(await queued(pool)).toBe(capped.length);
});

test("a restarted Pool waits less than 2 s for a Card that does not answer", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const [mute, other] = pool.cards;
  if (mute === undefined || other === undefined) throw new Error("two cards");
  slowReports(mute.id, 3_000);
  await crashPool(pool);
  const from = performance.now();
  expect(await (await enter(pool)).offer()).toBe(other.id);
  expect(performance.now() - from).toBeLessThan(2_000);
});

test("Cards that never answer do not keep the Pool from hearing the Cards after them", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const service = fresh("service");
  // More Cards than the Pool asks at once.
  const names = Array.from({ length: 60 }, (_, i) => `${service}-card-${i}`);
  const never = new Promise<never>(() => undefined);
  const CARD = {
    getByName: (card: string) => ({
      report: () => (card === names[0] ? never : Promise.resolve(cardReport(card))),
    }),
  };
  const stub = env.POOL.getByName(service);
  await runInDurableObject(stub, (pool) => void Object.assign(pool, { env: { ...env, CARD } }));
  const cards = names.map((card) => ({ card, weight: 1 }));
  await stub.configure({ version: 1, service, paused: false, queue: { max: 10, timeoutMs: 60_000 }, cards });
  const heard = async () => (await stub.status()).reports.length;
  await eventually(async () => expect(await heard()).toBe(49));
  await runInDurableObject(stub, () => void vi.advanceTimersByTime(ANSWER_MS_MAX));
  await eventually(async () => expect(await heard()).toBe(59));
});

test("requests that arrive after a restart follow an identical run that began before it", async () => {
  const pool = await makePool();
  const fingerprint = fresh("print");
  const leader = await enter(pool, { fingerprint });
  const running = await leader.start();
  await crashPool(pool);
  const followers = await enterMany(pool, 3, { fingerprint });
  expect(await queued(pool)).toBe(3);
  await env.CARD.getByName(running.card).release(running.number, leader.entry.attempt, CLEAN);
  await pool.stub.finished(leader.entry.attempt, { kind: "stored" }, { firstByteMs: 1, totalMs: 2 });
  for (const follower of followers)
    expect(await follower.reply()).toEqual({ kind: "told", finish: { kind: "stored" } });
  await expectHeld(pool, 0);
});

test("a run that began before the Pool's restart and whose holder vanishes is run once more", async () => {
  const pool = await makePool();
  const fingerprint = fresh("print");
  const leader = await enter(pool, { fingerprint });
  const running = await leader.start();
  await crashPool(pool);
  const [first, second] = await enterMany(pool, 2, { fingerprint });
  if (first === undefined || second === undefined) throw new Error("two callers");
  // The holder vanishes: the slot drains, and nobody can report how the run ended.
  running.vanish();
  const again = await first.start();
  await again.end();
  expect(await second.reply()).toEqual({ kind: "told", finish: { kind: "stored" } });
});

test("a claim made after a restart on an offer from before it is a run that the Pool hears of", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const caller = await enter(pool);
  const card = await caller.offer();
  await crashPool(pool);
  const next = await enter(pool);
  const offered = await next.offer();
  expect(offered).toBe(card);
  const { attempt, tenant } = caller.entry;
  const { lease } = await claim(env.CARD.getByName(card), attemptAt(pool.service, { attempt, tenant }));
  // Both were offered the same slot: the Card grants one claim, and the other request keeps waiting.
  expect(await env.CARD.getByName(offered).claim(attemptAt(pool.service, { attempt: next.entry.attempt }))).toEqual({
    no: "full",
  });
  await next.ticket.declined(offered, "full");
  expect(await queued(pool)).toBe(1);
  await lease.release(CLEAN);
  expect(await next.replyAtOnce()).toMatchObject({ kind: "offer", card });
});

test("a Pool and its Cards that restart together neither lose a slot nor grant one twice", async () => {
  const pool = await makePool([{}, {}]);
  const running = await startMany(pool, 3);
  await expectHeld(pool, 3);
  await crashPool(pool);
  const before = await Promise.all(pool.cards.map(({ stub }) => stub.report()));
  expect(before.flatMap((report) => report.held)).toHaveLength(3);
  const callers = await enterMany(pool, 3);
  await eventually(async () => expect(await queued(pool)).toBe(2));
  for (const run of running) await env.CARD.getByName(run.card).release(run.number, run.attempt, CLEAN);
  await Promise.all(callers.map(async (caller: Caller) => await (await caller.start()).end()));
  await expectHeld(pool, 0);
});

test("a request that loses its ticket and enters again is not recorded as canceled, and is charged", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const tenant = env.TENANT.getByName(fresh("tenant"));
  const request = fresh("req");
  const limits = { requestsPerMinute: 60, burst: 10, ownRate: false, quota: { results: 1, costMilli: null } };
  const admission = {
    clientId: null,
    service: "s",
    key: "k",
    results: 1,
    costMilli: 0,
    fingerprint: null,
    hits: false,
  };
  await tenant.admit({ ...admission, id: request }, limits);
  await start(pool);
  const name = { tenant: tenant.name ?? "", request };
  const cut = await enter(pool, name);
  cut.vanish();
  await enter(pool, { ...cut.entry, again: true });
  await sleep(RETURN_MS + 100);
  await tenant.record(request, "succeeded", 200, ["result"], "all");
  expect(await tenant.request(request)).toMatchObject({ state: "succeeded" });
  expect(await tenant.admit({ ...admission, id: fresh("req") }, limits)).toMatchObject({ ok: false, over: "results" });
});

test("an unconfigured card makes its Pool ask for its configuration, and then works", async () => {
  const service = fresh("service");
  const id = `${service}-card`;
  const config = { version: 1, service, paused: false, queue: { max: 10, timeoutMs: 60_000 } };
  const stub = env.POOL.getByName(service);
  const pool = { service, stub, cards: [], config: { ...config, cards: [{ card: id, weight: 1, version: 1 }] } };
  await stub.configure(pool.config);
  await eventually(async () => expect((await stub.status()).reports).toHaveLength(1));
  expect(await (await enter(pool)).reply()).toMatchObject({ kind: "behind" });
  await env.CARD.getByName(id).configure({
    version: 1,
    card: id,
    slots: 1,
    state: "active",
    listings: [listing(service)],
  });
  await eventually(async () => expect((await stub.status()).reports).toMatchObject([{ version: 1 }]));
  expect(await (await enter(pool)).offer()).toBe(id);
});

test("a card that recovers is found by later requests although its report was lost", async () => {
  const pool = await makePool([{ state: "disabled" }]);
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  const lost = vi.spyOn(Pool.prototype, "report").mockRejectedValue(new Error("overloaded"));
  onTestFinished(() => lost.mockRestore());
  await reconfigure(card, { state: "active" });
  await eventually(async () => expect(lost).toHaveBeenCalledTimes(TELLS_MAX));
  lost.mockRestore();
  expect(await (await enter(pool)).refusal()).toMatchObject({ reason: "no_healthy_card" });
  await eventually(async () => expect(await (await enter(pool)).reply()).toMatchObject({ kind: "offer" }));
});

test("a run that fails after the Pool's restart is taken over at once by an identical request", async () => {
  const pool = await makePool();
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  const errands = { provision: () => Promise.resolve(), later: () => undefined };
  const { entry } = new Caller(pool, { fingerprint: fresh("print") });
  const line = new Line(env, pool.service, entry, errands);
  onTestFinished(() => line.leave());
  const offer = await line.offer();
  if (offer.kind !== "offer") throw new Error(offer.kind);
  const { request, tenant, fingerprint } = entry;
  const lease = await line.claim(offer, { request, tenant, service: pool.service, fingerprint });
  await crashPool(pool);
  const follower = await enter(pool, { fingerprint });
  expect(await queued(pool)).toBe(1);
  await lease?.release(FAILED);
  await line.retry([card.id]);
  expect(await follower.replyAtOnce()).toMatchObject({ kind: "offer" });
});
