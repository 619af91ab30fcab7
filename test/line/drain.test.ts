import { afterEach, expect, test } from "vitest";
import { eventually, refusal, sleep, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

/** One card with two slots. */
const line = openLine({ park: { servers: 1, gpus: 1 } });
const CARD = "gpu-01-0";
/** Longer than any test: a slot that drains this long is freed by something else. */
const LONG_S = 120;
const ONCE = { retry: { tries: 1 }, breaker: { max_fails: 100 } };
const PROBE = { path: "/sdapi/v1/progress", busy: "/state/job_count" };
/** Difference between two clocks of one machine. */
const CLOCKS_MS = 50;

/** Sends a request whose connection breaks while the GPU keeps working, and expects the failure. */
async function breakOff(service: Service, key: string, workMs: number): Promise<void> {
  line.park.setService({ service_ms: workMs });
  await line.park.setFault(CARD, { kind: "reset", at: "after", after_ms: 100, goes_on: true });
  expect(refusal(await line.ask({ service, key }))).toBe("502 origin_reset");
  await line.park.heal();
  line.park.setService({ service_ms: 100 });
}

const newToken = async () => (await line.portico.admin<{ token: string }>("POST", `/cards/${CARD}/token`)).token;

/** Sends a report of the card's agent. */
async function beat(token: string, running: number): Promise<void> {
  const answer = await fetch(`${line.portico.url}/admin/v1/cards/${CARD}/heartbeat`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ running, gpu_memory_ratio: 0.5, gpu_utilization: 0.5, at: new Date().toISOString() }),
  });
  expect(answer.ok, await answer.text()).toBe(true);
}

const draining = async () => (await line.leases()).filter(({ state }) => state === "draining").length;
const idle = () => eventually("the GPU is done", () => line.park.counts().running === 0);

/** Sends requests and expects all of them to succeed. */
async function askMany(service: Service, key: string, count: number): Promise<void> {
  const callers = await line.calls(count, { service, key });
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: count });
}

// Frees everything that a test leaves draining.
afterEach(async () => {
  await idle();
  const token = await newToken();
  await beat(token, 0);
  await beat(token, 0);
});

test("the slot of a broken run drains for drain.max_s, because the GPU may still work", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 4 } });
  const key = await line.key();
  await breakOff(service, key, 3_000);
  const leases = await line.leases();
  expect(leases).toMatchObject([{ card: CARD, state: "draining" }]);
  const until = Date.parse(leases[0]?.drain_until ?? "");
  await eventually("the status counts it as in use", async () => (await line.status()).in_use === 1);
  line.park.setService({ service_ms: 1_000 });
  await askMany(service, key, 8);
  expect(line.park.counts()).toMatchObject({ over: 0, highest: 2, ghosts: 1, done: 8 });
  // Two at a time again, but not before the drain has ended.
  const done = line.park.runs().filter((run) => run.ended === "done");
  const seconds = done.filter((run, i) => done.slice(0, i).some((other) => (other.ended_at ?? 0) > run.started_at));
  expect(seconds.length).toBeGreaterThan(0);
  for (const run of seconds) expect(run.started_at).toBeGreaterThan(until - CLOCKS_MS);
});

test("a hanging card's slots drain and are free again after drain.max_s", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 2 }, timeouts: { read_s: 2 } });
  const key = await line.key();
  await line.park.setFault(CARD, { kind: "hang", busy_ms: 3_000 });
  const hung = await line.calls(2, { service, key });
  expect((await Promise.all(hung.map((caller) => caller.answered))).map(refusal)).toEqual([
    "504 origin_timeout",
    "504 origin_timeout",
  ]);
  expect(await draining()).toBe(2);
  await line.park.heal();
  line.park.setService({ service_ms: 50 });
  await askMany(service, key, 4);
  expect(line.park.counts().over).toBe(0);
});

test("a draining slot counts toward its tenant's concurrent number", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 3 } });
  const [capped, other] = [await line.key({ limits: { concurrent: 1 } }), await line.key()];
  await breakOff(service, capped, 1_500);
  const waiting = await line.call({ service, key: capped });
  expect((await line.ask({ service, key: other })).status).toBe(200);
  expect(line.starts(waiting)).toBe(0);
  expect((await waiting.answered).status).toBe(200);
});

test("reports never free more draining slots than exceed the runs that the card reports", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S } });
  const key = await line.key();
  const token = await newToken();
  await beat(token, 0);
  await beat(token, 0);
  await breakOff(service, key, 500);
  // Reports from before the unclean end do not count.
  expect(await draining()).toBe(1);
  for (let i = 0; i < 3; i++) await beat(token, 1);
  expect(await draining()).toBe(1);
  await breakOff(service, key, 500);
  await idle();
  expect(await draining()).toBe(2);
  // The younger lease's first report may predate its end; the older one has had several.
  await beat(token, 1);
  expect(await draining()).toBe(1);
  await beat(token, 0);
  expect(await draining()).toBe(0);
  await askMany(service, key, 2);
});

test("the first report of an idle card frees nothing; the second frees the slot for the waiting request", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S } });
  const key = await line.key();
  await line.portico.admin("PATCH", `/cards/${CARD}`, { slots: 1 });
  await breakOff(service, key, 500);
  await idle();
  const waiting = await line.call({ service, key });
  await eventually("one waits", async () => (await line.queued(service)) === 1);
  // The card's own agent: one report, and another one later.
  const agent = { url: line.portico.url, tokens: { [CARD]: await newToken() }, every_ms: 60_000 };
  line.park.heartbeat(agent);
  await eventually(
    "it has reported",
    () => line.park.reports()[0]?.heartbeats.last_status === 204 || line.park.reports()[0]?.heartbeats.sent === 1,
  );
  await sleep(500);
  expect([line.starts(waiting), await draining()]).toEqual([0, 1]);
  line.park.heartbeat(agent);
  expect((await waiting.answered).status).toBe(200);
  line.park.heartbeat(null);
  await line.portico.admin("PATCH", `/cards/${CARD}`, { slots: 2 });
});

test("a probe frees a draining slot when the origin has ended its work, and not before", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S, probe: PROBE } });
  const key = await line.key();
  await breakOff(service, key, 3_000);
  await breakOff(service, key, 3_000);
  await askMany(service, key, 2);
  expect(line.park.counts()).toMatchObject({ over: 0, ghosts: 2, done: 2 });
  await eventually("nothing drains", async () => (await draining()) === 0);
});

test("a run that broke while its server refused connections is not treated as never started", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S } });
  const key = await line.key();
  line.park.setService({ service_ms: 7_000 });
  await line.park.setFault(CARD, { kind: "reset", at: "after", after_ms: 4_000, goes_on: true });
  const caller = await line.call({ service, key });
  await line.running([caller]);
  // Like a server that is being restarted: it accepts no connections, but still works on its runs.
  await line.park.setFault(CARD, { kind: "refuse" });
  const failed = await caller.answered;
  expect(refusal(failed)).toBe("502 origin_reset");
  expect(JSON.parse(failed.text)).toMatchObject({ error: { started: "unknown" } });
  await line.park.heal();
  line.park.setService({ service_ms: 300 });
  await askMany(service, key, 4);
  expect(line.park.counts()).toMatchObject({ over: 0, running: 1 });
});
