import { expect, test } from "vitest";
import { eventually, FAILED, fresh, reconfigure, UNCLEAN } from "./objects.ts";
import { type Caller, enter, enterMany, expectHeld, makePool, type PoolUnderTest, queued, start } from "./pools.ts";

/** A run with three followers. */
async function runWithFollowers(pool: PoolUnderTest, more: { concurrent?: number } = {}) {
  const fingerprint = fresh("print");
  const leader = await enter(pool, { fingerprint, ...more });
  const running = await leader.start();
  const [first, second, third] = await enterMany(pool, 3, { fingerprint, ...more });
  if (first === undefined || second === undefined || third === undefined) throw new Error("three callers");
  expect(await queued(pool)).toBe(3);
  return { fingerprint, leader, running, first, second, third, followers: [first, second, third] };
}

test("identical requests wait for one run and are told that its answer is stored", async () => {
  const pool = await makePool();
  const { running, followers } = await runWithFollowers(pool);
  await running.end();
  for (const follower of followers) {
    expect(await follower.replyAtOnce()).toEqual({ kind: "told", finish: { kind: "stored" } });
  }
  expect(await pool.stub.status()).toMatchObject({ queued: 0, admitted: 1 });
});

test("followers receive the origin's error answer unchanged", async () => {
  const pool = await makePool();
  const { running, followers } = await runWithFollowers(pool);
  const answer = { kind: "answer", status: 422, contentType: "application/json", body: '{"detail":"no"}' } as const;
  await running.end(undefined, answer);
  for (const follower of followers) expect(await follower.reply()).toEqual({ kind: "told", finish: answer });
});

test("a hundred identical requests that arrive before any of them runs share one run", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const busy = await start(pool);
  const callers = await enterMany(pool, 100, { fingerprint: fresh("print") });
  await busy.end();
  const [leader, ...followers] = callers;
  const running = await leader?.start();
  await running?.end();
  const replies = await Promise.all(followers.map((caller) => caller.reply()));
  expect(new Set(replies.map((reply) => JSON.stringify(reply)))).toEqual(
    new Set(['{"kind":"told","finish":{"kind":"stored"}}']),
  );
  expect((await pool.stub.status()).admitted).toBe(2);
});

test("a follower uses no slot of its tenant's, but counts toward the tenant's waiting limit", async () => {
  const pool = await makePool();
  const { fingerprint, running } = await runWithFollowers(pool, { concurrent: 1 });
  const fourth = await enter(pool, { fingerprint, waiting: 3 });
  expect(await fourth.refusal()).toMatchObject({ reason: "concurrency", waiting: 3, max: 3 });
  await running.end();
  await start(pool, { concurrent: 1 });
});

test("when a waiting leader leaves, the next follower becomes leader and takes its place", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const busy = await start(pool);
  const fingerprint = fresh("print");
  const leader = await enter(pool, { fingerprint });
  const follower = await enter(pool, { fingerprint });
  const third = await enter(pool, { fingerprint });
  leader.vanish();
  await eventually(async () => expect(await queued(pool)).toBe(2));
  await busy.end();
  const running = await follower.start();
  await running.end();
  expect(await third.reply()).toEqual({ kind: "told", finish: { kind: "stored" } });
});

test("when a running leader leaves, the next follower becomes leader and runs the request again", async () => {
  const pool = await makePool();
  const { running, first, second, third } = await runWithFollowers(pool);
  running.vanish();
  const again = await first.start();
  await again.end();
  for (const follower of [second, third]) expect(await follower.reply()).toMatchObject({ kind: "told" });
});

test("a failed run is started again once; if it fails again, all followers are told", async () => {
  const pool = await makePool();
  const { running, first, second, third } = await runWithFollowers(pool);
  await running.end(FAILED, { kind: "failed", reason: "origin_reset" });
  const again = await first.start();
  expect(await queued(pool)).toBe(2);
  await again.end(FAILED, { kind: "failed", reason: "origin_status" });
  for (const follower of [second, third]) {
    expect(await follower.reply()).toEqual({ kind: "told", finish: { kind: "failed", reason: "origin_status" } });
  }
  expect(await pool.stub.status()).toMatchObject({ queued: 0, admitted: 2 });
});

test("a run whose answer cannot be shared lets each follower run alone", async () => {
  const pool = await makePool([{ slots: 2 }, { slots: 2 }]);
  const { running, followers } = await runWithFollowers(pool);
  await running.end(undefined, { kind: "alone" });
  const own = await Promise.all(followers.map((follower) => follower.start()));
  expect(new Set(own.map(({ attempt }) => attempt)).size).toBe(3);
  await expectHeld(pool, 3);
});

test("a follower that leaves is removed, and the others are told as usual", async () => {
  const pool = await makePool();
  const { running, first, second, third } = await runWithFollowers(pool);
  second.vanish();
  await eventually(async () => expect(await queued(pool)).toBe(2));
  await running.end();
  for (const follower of [first, third]) expect(await follower.reply()).toMatchObject({ kind: "told" });
});

test("a run that retries on another card keeps its followers", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const { leader, running, followers } = await runWithFollowers(pool);
  const card = pool.cards.find(({ id }) => id === running.card);
  await card?.stub.release(running.number, running.attempt, FAILED);
  await leader.ticket.retry(fresh("att"), [running.card]);
  expect(await leader.offer()).not.toBe(running.card);
  expect(await queued(pool)).toBe(3);
  await leader.ticket.finished({ kind: "stored" }, null);
  for (const follower of followers) expect(await follower.reply()).toMatchObject({ kind: "told" });
});

test("a finished run leads nobody: the next identical request runs at once", async () => {
  const pool = await makePool();
  const fingerprint = fresh("print");
  for (let i = 0; i < 20; i++) {
    const caller = await enter(pool, { fingerprint });
    expect(await caller.replyAtOnce()).toMatchObject({ kind: "offer" });
    await (await caller.start()).end(undefined, { kind: "alone" });
  }
  expect((await pool.stub.status()).admitted).toBe(20);
});

test("five hundred identical requests are all refused when no card is healthy any more", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const busy = await start(pool);
  const callers = await enterMany(pool, 500, { fingerprint: fresh("print") });
  const [card] = pool.cards;
  if (card === undefined) throw new Error("one card");
  await reconfigure(card, { state: "disabled" });
  const replies = await Promise.all(callers.map((caller: Caller) => caller.reply()));
  expect(replies.filter((reply) => reply.kind === "refused")).toHaveLength(500);
  expect(await pool.stub.status()).toMatchObject({ queued: 0, refused: { no_healthy_card: 500 } });
  await busy.end(UNCLEAN);
});
