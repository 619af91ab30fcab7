/** The Pool's limit on requests of a tenant per client address. */
import { expect, test } from "vitest";
import { crash, eventually, UNCLEAN } from "./objects.ts";
import { crashPool, enter, expectHeld, makePool, type PoolUnderTest, queued, start } from "./pools.ts";

const HERE = { address: "here", perAddress: 2 };
const THERE = { ...HERE, address: "there" };
const FULL = { reason: "concurrency", of: "address", waiting: 2, max: 2 };

/** Whether the Pool admits one more request from an address; the request leaves at once. */
async function lets(pool: PoolUnderTest, more = HERE): Promise<boolean> {
  const caller = await enter(pool, more);
  const reply = await Promise.race([caller.reply(), scheduler.wait(100)]);
  await caller.ticket.leave();
  caller.vanish();
  if (reply?.kind === "refused") expect(reply.refusal).toMatchObject(FULL);
  return reply?.kind !== "refused";
}

/** Retries, because leaves and ends take effect asynchronously. */
const untilLets = (pool: PoolUnderTest, expected: boolean) =>
  eventually(async () => expect(await lets(pool)).toBe(expected));

test("running requests count only for their own tenant and address, even while a slot is free", async () => {
  const pool = await makePool([{ slots: 4 }]);
  const runs = [await start(pool, HERE), await start(pool, HERE)];
  expect((await (await enter(pool, HERE)).refusal()).retryAfterMs).toBeGreaterThan(0);
  expect(await lets(pool, THERE)).toBe(true);
  expect(await lets(pool, { ...HERE, perAddress: 3 })).toBe(true);
  const other = await start(pool, { ...HERE, tenant: "other" });
  await runs[0]?.end();
  await untilLets(pool, true);
  await runs[1]?.end();
  await other.end();
});

test("requests that left, were refused or were displaced no longer count", async () => {
  const pool = await makePool([{ slots: 1 }], { queue: { max: 3, timeoutMs: 60_000 } });
  const running = await start(pool);
  const others = [await enter(pool)];
  const waiting = [await enter(pool, HERE), await enter(pool, HERE)];
  for (let i = 0; i < 5; i++) expect(await lets(pool)).toBe(false);
  // The waiting room is full: a request of another tenant displaces the newest ticket.
  others.push(await enter(pool, { tenant: "other" }));
  expect(await waiting[1]?.refusal()).toMatchObject({ reason: "queue_full" });
  for (const caller of [...others, ...waiting]) caller.vanish();
  await eventually(async () => expect(await queued(pool)).toBe(0));
  const again = await enter(pool, HERE);
  await enter(pool, HERE);
  expect(await lets(pool)).toBe(false);
  again.vanish();
  await untilLets(pool, true);
  await running.end();
});

test("followers of an identical run count as well", async () => {
  const pool = await makePool();
  const run = await start(pool, { ...HERE, fingerprint: "same" });
  const follower = await enter(pool, { ...HERE, fingerprint: "same" });
  expect((await (await enter(pool, { ...HERE, fingerprint: "same" })).refusal()).reason).toBe("concurrency");
  await run.end();
  expect(await follower.reply()).toMatchObject({ kind: "told" });
  await untilLets(pool, true);
});

test("a request counts once across its attempts, and its draining slot counts until it is free", async () => {
  const pool = await makePool([{ slots: 1 }, { slots: 1 }]);
  const first = await enter(pool, HERE);
  const run = await first.start();
  // The attempt on this card failed: its slot drains while the request runs elsewhere.
  expect(await first.ticket.retry(`${first.entry.attempt} again`, [run.card])).toBe(true);
  expect(await lets(pool)).toBe(true);
  expect(await first.offer()).not.toBe(run.card);
  await run.end(UNCLEAN);
  await expectHeld(pool, 1);
  const second = await enter(pool, HERE);
  expect(await lets(pool)).toBe(false);
  second.vanish();
  await untilLets(pool, true);
});

test("after restarts of Pool and Cards, running requests still count and waiting ones are admitted again", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const run = await start(pool, HERE);
  const waiting = await enter(pool, HERE);
  await crashPool(pool);
  // The waiting request enters again and keeps its place.
  const again = await enter(pool, { ...waiting.entry, again: true });
  expect(await lets(pool)).toBe(false);
  for (const card of pool.cards) await crash(card);
  await crashPool(pool);
  expect(await lets(pool)).toBe(true);
  await enter(pool, { ...again.entry, again: true });
  await untilLets(pool, false);
  run.vanish();
});
