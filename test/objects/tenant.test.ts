import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { eventually, evict, fresh, passTime, sleep } from "./objects.ts";
import { Caller, makePool } from "./pools.ts";

const NO_QUOTA = { results: null, costMilli: null };
const RATE = { requestsPerMinute: 60, burst: 10, ownRate: false, quota: NO_QUOTA };
const FAST = { ...RATE, requestsPerMinute: 1e6, burst: 1e6 };
const DAY_MS = 86_400_000;
/** Interval of the alarm that checks running requests. */
const LOOK_EVERY_MS = 60_000;
const USAGE_MS = 401 * DAY_MS;

const tenant = () => env.TENANT.getByName(fresh("tenant"));
const request = (id = fresh("req"), clientId: string | null = null) => ({
  id,
  clientId,
  service: "s",
  key: "k",
  fingerprint: null as string | null,
  hits: false,
  results: 1,
  costMilli: 1_000,
});

test("of sixty concurrent requests with a burst of ten, exactly ten pass", async () => {
  const stub = tenant();
  passTime(0);
  const replies = await Promise.all(Array.from({ length: 60 }, () => stub.admit(request(), RATE)));
  expect(replies.filter(({ ok }) => ok)).toHaveLength(10);
  const refused = replies.filter((reply) => !reply.ok);
  expect(refused.every((reply) => !reply.ok && reply.retryAfterMs > 0 && reply.retryAfterMs <= 1_000)).toBe(true);
  passTime(1_001);
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: true, remaining: 0 });
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: false });
});

test("Every object method is idempotent per attempt id: calling it twice with the same id has the effect of one call.", async () => {
  const stub = tenant();
  const same = request();
  passTime(0);
  const replies = await Promise.all(Array.from({ length: 20 }, () => stub.admit(same, RATE)));
  expect(replies.every(({ ok }) => ok)).toBe(true);
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: true, remaining: 8 });
  for (let i = 0; i < 5; i++) await stub.record(same.id, "failed", 503, [], "nothing");
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: true, remaining: 8 });
});

test("a repeated admission passes again although the bucket is empty by then", async () => {
  const stub = tenant();
  const first = request();
  await stub.admit(first, RATE);
  for (let i = 0; i < 20; i++) await stub.admit(request(), RATE);
  expect(await stub.admit(first, RATE)).toMatchObject({ ok: true });
});

test("A request that is refused, fails, or is canceled before it starts costs the tenant nothing.", async () => {
  const stub = tenant();
  passTime(0);
  const [refused, ran] = [request(), request()];
  await stub.admit(refused, RATE);
  await stub.admit(ran, RATE);
  await stub.record(refused.id, "failed", 503, [], "nothing");
  await stub.record(ran.id, "succeeded", 200, [], "all");
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: true, remaining: 8 });
});

test("a record is found by its id and by the client's id, under which the latest request wins", async () => {
  const stub = tenant();
  const own = fresh("client");
  const [first, second] = [request(fresh("req"), own), request(fresh("req"), own)];
  await stub.admit(first, RATE);
  expect(await stub.request(own)).toMatchObject({
    id: first.id,
    clientId: own,
    state: "queued",
    status: null,
    results: [],
  });
  await stub.admit(second, RATE);
  await stub.record(first.id, "succeeded", 200, ["result-1"], "all");
  expect(await stub.request(own)).toMatchObject({ id: second.id, state: "queued" });
  expect(await stub.request(first.id)).toMatchObject({ state: "succeeded", status: 200, results: ["result-1"] });
  expect(await stub.request("nobody")).toBeNull();
});

test("of requests with one client id in the same millisecond the last one wins, also after an eviction", async () => {
  const stub = tenant();
  const own = fresh("client");
  passTime(0);
  const all = Array.from({ length: 3 }, () => request(fresh("req"), own));
  for (const one of all) await stub.admit(one, RATE);
  expect(await stub.request(own)).toMatchObject({ id: all[2]?.id });
  await evict(stub);
  expect(await stub.request(own)).toMatchObject({ id: all[2]?.id });
});

test("a request whose client id equals another request's id does not hide that request", async () => {
  const stub = tenant();
  const first = request();
  await stub.admit(first, RATE);
  await stub.admit(request(fresh("req"), first.id), RATE);
  expect(await stub.request(first.id)).toMatchObject({ id: first.id, clientId: null });
});

test.each(["succeeded", "failed", "canceled"] as const)("a finished request stays %s", async (state) => {
  const stub = tenant();
  const one = request();
  await stub.admit(one, RATE);
  await stub.record(one.id, "running", null, [], "all");
  await stub.record(one.id, state, 200, ["kept"], "all");
  await stub.record(one.id, "running", null, [], "all");
  await stub.record(one.id, "canceled", 499, [], "nothing");
  expect(await stub.request(one.id)).toMatchObject({ state, status: 200, results: ["kept"] });
  await evict(stub);
  await stub.record(one.id, "failed", 500, [], "all");
  expect(await stub.request(one.id)).toMatchObject({ state, status: 200, results: ["kept"] });
});

test("the end of a request that was never admitted is not recorded", async () => {
  const stub = tenant();
  await stub.record("unknown", "succeeded", 200, [], "all");
  expect(await stub.request("unknown")).toBeNull();
});

test("the bucket and the records survive eviction", async () => {
  const stub = tenant();
  passTime(0);
  const all = Array.from({ length: 10 }, () => request());
  for (const one of all) await stub.admit(one, RATE);
  await evict(stub);
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: false });
  expect(await stub.admit(all[0] ?? request(), RATE)).toMatchObject({ ok: true });
  expect(await stub.request(all[9]?.id ?? "")).toMatchObject({ state: "queued" });
});

const countRows = (stub: ReturnType<typeof tenant>) =>
  runInDurableObject(
    stub,
    (_, state) => state.storage.sql.exec<{ count: number }>("SELECT count(*) AS count FROM requests").one().count,
  );

test("records older than a day are not found and are swept", async () => {
  const stub = tenant();
  const [old, young] = [request(), request()];
  await stub.admit(old, RATE);
  passTime(DAY_MS / 2);
  await stub.admit(young, RATE);
  await eventually(async () => expect(await countRows(stub)).toBe(2));
  passTime(DAY_MS / 2 + 1);
  expect(await stub.request(old.id)).toBeNull();
  expect(await stub.request(young.id)).toMatchObject({ id: young.id });
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await countRows(stub)).toBe(1);
  passTime(DAY_MS / 2);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await countRows(stub)).toBe(0);
  // The usage that they added is kept longer.
  passTime(USAGE_MS);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await runDurableObjectAlarm(stub)).toBe(false);
  await stub.admit(request(), RATE);
  await eventually(async () => expect(await runDurableObjectAlarm(stub)).toBe(true));
});

test("old records are swept in steps", async () => {
  const stub = tenant();
  await stub.admit(request(), RATE);
  await eventually(async () => expect(await countRows(stub)).toBe(1));
  await runInDurableObject(stub, (_, state) => {
    state.storage.sql.exec(`
      WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 6000)
      INSERT INTO requests (id, client_id, service, state, status, results, at, cost, quota)
      SELECT 'old-' || n, NULL, 's', 'succeeded', 200, '[]', n, 0, 0 FROM numbers`);
  });
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await countRows(stub)).toBe(1_001);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await countRows(stub)).toBe(1);
});

test("admissions never exceed the monthly quota, and results that were not made are given back", async () => {
  const stub = tenant();
  passTime(0);
  const limits = { ...FAST, quota: { ...NO_QUOTA, results: 5 } };
  const all = Array.from({ length: 8 }, () => request());
  const replies = await Promise.all(all.map((one) => stub.admit(one, limits)));
  expect(replies.filter(({ ok }) => ok)).toHaveLength(5);
  expect(replies.at(-1)).toMatchObject({ ok: false, quota: 5 });
  const [refused, shared, made] = all;
  await stub.record(refused?.id ?? "", "failed", 503, [], "nothing");
  await stub.record(shared?.id ?? "", "succeeded", 200, ["r"], "token");
  await stub.record(made?.id ?? "", "succeeded", 200, ["r"], "all");
  for (let twice = 0; twice < 2; twice++) await stub.record(refused?.id ?? "", "failed", 503, [], "nothing");
  expect(await stub.admit({ ...request(), results: 3 }, limits)).toMatchObject({ ok: false, quota: 5 });
  expect(await stub.admit({ ...request(), results: 2 }, limits)).toMatchObject({ ok: true });
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false, quota: 5 });
});

test("a service with its own rate takes no tokens from other services and gets back only its own", async () => {
  const stub = tenant();
  passTime(0);
  const own = { ...RATE, burst: 3, ownRate: true };
  const ask = (service: string, limits = RATE) => stub.admit({ ...request(), service }, limits);
  const first = { ...request(), service: "own" };
  expect(await stub.admit(first, own)).toMatchObject({ ok: true, limit: 3, remaining: 2 });
  for (let i = 0; i < 2; i++) await ask("own", own);
  expect(await ask("own", own)).toMatchObject({ ok: false, remaining: 0 });
  expect(await ask("other")).toMatchObject({ ok: true, limit: 10, remaining: 9 });
  expect(await ask("constructor", own)).toMatchObject({ ok: true, remaining: 2 });
  await stub.record(first.id, "failed", 503, [], "nothing");
  await evict(stub);
  expect(await ask("own", own)).toMatchObject({ ok: true, remaining: 0 });
  expect(await ask("other")).toMatchObject({ ok: true, remaining: 8 });
});

test("admissions never exceed the monthly cost, and uncharged requests give their cost back once", async () => {
  const stub = tenant();
  passTime(0);
  const limits = { ...FAST, quota: { ...NO_QUOTA, costMilli: 5_500 } };
  const all = Array.from({ length: 8 }, () => request());
  const replies = await Promise.all(all.map((one) => stub.admit(one, limits)));
  expect(replies.filter(({ ok }) => ok)).toHaveLength(5);
  expect(replies.at(-1)).toMatchObject({ ok: false, over: "cost", quota: 5.5 });
  expect(await stub.admit({ ...request(), costMilli: 500 }, limits)).toMatchObject({ ok: true });
  const ends = ["nothing", "token", "all", "price"] as const;
  for (let twice = 0; twice < 2; twice++)
    for (const [i, end] of ends.entries()) await stub.record(all[i]?.id ?? "", "failed", 503, [], end);
  expect(await stub.admit({ ...request(), costMilli: 2_001 }, limits)).toMatchObject({ ok: false });
  await evict(stub);
  expect(await stub.admit({ ...request(), costMilli: 2_000 }, limits)).toMatchObject({ ok: true });
  expect(await stub.admit({ ...request(), costMilli: 1 }, limits)).toMatchObject({ ok: false });
});

test("an exhausted quota admits a request that needs none of it, and a refusal reports the rate left", async () => {
  const stub = tenant();
  passTime(0);
  const none = { ...RATE, quota: { results: 0, costMilli: 0 } };
  expect(await stub.admit(request(), none)).toMatchObject({ ok: false, over: "results", remaining: 10, resetMs: 0 });
  expect(await stub.admit({ ...request(), results: 0, costMilli: 0 }, none)).toMatchObject({ ok: true, remaining: 9 });
});

test("a quota refusal's Retry-After points to the end of the month, and a request then passes", async () => {
  const stub = tenant();
  // Freezes the clock, so that both reads of it agree.
  passTime(0);
  passTime(Date.UTC(2026, 11, 31, 23, 59, 58) - Date.now());
  const limits = { ...FAST, quota: { ...NO_QUOTA, results: 1 } };
  const first = request();
  await stub.admit(first, limits);
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false, retryAfterMs: 2_000 });
  passTime(2_000);
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: true });
  // A refund for the previous month does not add to this month's quota.
  await stub.record(first.id, "failed", 503, [], "nothing");
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false });
});

test("a follower takes no quota and pays once, before it runs by itself", async () => {
  const stub = tenant();
  passTime(0);
  const limits = { ...FAST, quota: { results: 2, costMilli: 2_500 } };
  const same = () => ({ ...request(), fingerprint: "same" });
  const [leader, ...followers] = Array.from({ length: 5 }, same);
  expect(await stub.admit(leader ?? same(), limits)).toMatchObject({ ok: true, follows: false });
  for (const one of followers) expect(await stub.admit(one, limits)).toMatchObject({ ok: true, follows: true });
  expect(await stub.admit({ ...same(), fingerprint: "other" }, limits)).toMatchObject({ ok: true, follows: false });
  // The leader fails: one follower takes its place, and there is no quota for another.
  expect(await stub.pay(followers[0] ?? same(), limits)).toMatchObject({ ok: false, over: "results" });
  await stub.record(leader?.id ?? "", "failed", 503, [], "nothing");
  for (let twice = 0; twice < 2; twice++)
    expect(await stub.pay(followers[0] ?? same(), limits)).toMatchObject({ ok: true });
  expect(await stub.pay(followers[1] ?? same(), limits)).toMatchObject({ ok: false });
  expect(await stub.admit(same(), limits)).toMatchObject({ ok: true, follows: true });
  // Unpaid followers have nothing to give back; a paid one is refunded like any other request.
  for (const one of followers.slice(1)) await stub.record(one.id, "succeeded", 200, [], "token");
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false });
  await stub.record(followers[0]?.id ?? "", "failed", 503, [], "nothing");
  expect(await stub.pay(followers[0] ?? same(), limits)).toMatchObject({ ok: true });
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: true });
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false });
});

test("an admission repeated after the leader has ended still follows until it pays", async () => {
  const stub = tenant();
  const [leader, follower] = [request(), request()].map((one) => ({ ...one, fingerprint: "same" }));
  if (leader === undefined || follower === undefined) throw new Error("two requests");
  await stub.admit(leader, FAST);
  expect(await stub.admit(follower, FAST)).toMatchObject({ ok: true, follows: true });
  await stub.record(leader.id, "failed", 502, [], "nothing");
  // The reply to the first admission was lost.
  expect(await stub.admit(follower, FAST)).toMatchObject({ ok: true, follows: true });
  await stub.pay(follower, FAST);
  expect(await stub.admit(follower, FAST)).toMatchObject({ ok: true, follows: false });
});

test("where hits have a price, a follower pays that price and no result", async () => {
  const stub = tenant();
  passTime(0);
  const limits = { ...FAST, quota: { results: 1, costMilli: 2_000 } };
  const same = { fingerprint: "same", hits: true };
  const follower = { ...request(), ...same };
  await stub.admit({ ...request(), ...same }, limits);
  expect(await stub.admit(follower, limits)).toMatchObject({ ok: true, follows: true });
  expect(await stub.admit({ ...request(), ...same }, limits)).toMatchObject({ ok: false, over: "cost" });
  await stub.record(follower.id, "succeeded", 200, [], "price");
  expect(await stub.admit({ ...request(), ...same }, limits)).toMatchObject({ ok: false, over: "cost" });
});

test("a priced hit takes its price once, takes no token and is recorded as succeeded", async () => {
  const stub = tenant();
  passTime(0);
  const limits = { ...RATE, quota: { results: 0, costMilli: 2_000 } };
  const hit = request();
  for (let twice = 0; twice < 2; twice++)
    expect(await stub.admitHit(hit, limits, ["result-1"])).toMatchObject({ ok: true, remaining: 10 });
  expect(await stub.request(hit.id)).toMatchObject({ state: "succeeded", status: 200, results: ["result-1"] });
  await stub.record(hit.id, "failed", 503, [], "nothing");
  expect(await stub.admitHit({ ...request(), costMilli: 1_001 }, limits, [])).toMatchObject({
    ok: false,
    over: "cost",
  });
  expect(await stub.admitHit(request(), limits, [])).toMatchObject({ ok: true });
  expect(await stub.admitHit(request(), limits, [])).toMatchObject({ ok: false, over: "cost", quota: 2 });
});

test("the state of an unfinished request, and what it waits for, come from its Pool", async () => {
  const pool = await makePool([{ slots: 1 }]);
  const stub = tenant();
  const [first, second] = [new Caller(pool), new Caller(pool)];
  for (const { entry } of [first, second])
    await stub.admit({ ...request(entry.request), service: pool.service }, { ...RATE });
  await first.enter();
  await first.start();
  await second.enter();
  expect(await stub.request(first.entry.request)).toMatchObject({ state: "running", on: null, position: null });
  const waiting = { state: "queued", on: "slots_busy", position: 1 };
  expect(await stub.request(second.entry.request)).toMatchObject(waiting);
});

test("a request that its Pool has not known for 30 s fails, and a later success does not change that", async () => {
  const pool = await makePool();
  const stub = tenant();
  passTime(0);
  const lost = { ...request(), service: pool.service };
  await stub.admit(lost, RATE);
  passTime(60_001);
  expect(await stub.request(lost.id)).toMatchObject({ state: "running" });
  passTime(29_999);
  expect(await stub.request(lost.id)).toMatchObject({ state: "running" });
  passTime(1);
  expect(await stub.request(lost.id)).toMatchObject({ state: "failed", status: null });
  await stub.record(lost.id, "succeeded", 200, [], "all");
  expect(await stub.request(lost.id)).toMatchObject({ state: "failed" });
});

test("the Tenant's alarm finds lost requests and gives their quota back", async () => {
  const pool = await makePool();
  const stub = tenant();
  const limits = { ...FAST, quota: { ...NO_QUOTA, results: 2 } };
  passTime(0);
  await stub.admit({ ...request(), service: pool.service, results: 2 }, limits);
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false });
  await eventually(async () => expect(await countRows(stub)).toBe(1));
  passTime(60_001);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await stub.admit(request(), limits)).toMatchObject({ ok: false });
  passTime(60_000);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await stub.admit({ ...request(), results: 2 }, limits)).toMatchObject({ ok: true });
});

test("a record that the alarm finds lost while it sweeps it does not come back", async () => {
  const pool = await makePool();
  const stub = tenant();
  passTime(0);
  await stub.admit({ ...request(), service: pool.service }, RATE);
  await eventually(async () => expect(await countRows(stub)).toBe(1));
  for (const ms of [DAY_MS - 60_000, 60_001]) {
    passTime(ms);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
  }
  await sleep(300);
  expect(await countRows(stub)).toBe(0);
});

test("the next call sets a Tenant's overdue alarm again", async () => {
  const stub = tenant();
  const alarm = () => runInDurableObject(stub, (_, { storage }) => storage.getAlarm());
  passTime(0);
  await stub.admit(request(), RATE);
  await eventually(async () => expect(await alarm()).toBe(Date.now() + LOOK_EVERY_MS));
  // The alarm is overdue now, but it is still set to the same time.
  passTime(2 * LOOK_EVERY_MS);
  await stub.admit(request(), RATE);
  await eventually(async () => expect(await alarm()).toBe(Date.now() + LOOK_EVERY_MS));
});

test("the object of a deleted tenant still answers after it has removed everything a day later", async () => {
  const stub = tenant();
  passTime(0);
  await stub.admit(request(), RATE);
  await stub.forget();
  passTime(DAY_MS);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await stub.request("nobody")).toBeNull();
  expect(await stub.usage({ from: "2026-01-01", to: "2026-01-01", by: ["day"], limit: 1, after: null })).toMatchObject({
    rows: [],
  });
  expect(await stub.admit(request(), RATE)).toMatchObject({ ok: true });
  await eventually(async () => expect(await countRows(stub)).toBe(1));
});
