import { expect, test } from "vitest";
import { type Caller, eventually, refusal, sleep, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

/** One card with two slots. */
const line = openLine({ park: { servers: 1, gpus: 1 } });
const CARD = "gpu-01-0";
/** Longer than any test: what drains so long is freed by something else. */
const LONG_S = 120;
const ONCE = { retry: { tries: 1 }, breaker: { max_fails: 100 } };
const PROBE = { path: "/sdapi/v1/memory", busy: "/running" };

/** A request whose connection breaks while the GPU works on, and whose failure its caller has seen. */
async function breakOff(service: Service, key: string, workMs: number): Promise<void> {
  line.park.setService({ service_ms: workMs });
  await line.park.setFault(CARD, { kind: "reset", at: "after", after_ms: 100, goes_on: true });
  expect(refusal(await line.ask({ service, key }))).toBe("502 origin_reset");
  await line.park.heal();
  expect(line.park.counts().running).toBe(1);
}

/** Two that run on the card's two slots: only one can while the other drains. */
async function twoMore(service: Service, key: string): Promise<Caller[]> {
  line.park.setService({ service_ms: 100 });
  return line.calls(2, { service, key });
}

const draining = async () => (await line.leases()).filter(({ state }) => state === "draining").length;

test("the slot of a run that broke off drains for drain.max_s: the GPU may still work", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 4 } });
  const key = await line.key();
  await breakOff(service, key, 3_000);
  const from = Date.now();
  const leases = await line.leases();
  expect(leases).toMatchObject([{ card: CARD, state: "draining" }]);
  expect(Date.parse(leases[0]?.drain_until ?? "") - from).toBeLessThanOrEqual(4_000);
  await eventually("the status counts it as in use", async () => (await line.status()).in_use === 1);
  line.park.setService({ service_ms: 1_000 });
  const callers = await line.calls(8, { service, key });
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: 8 });
  expect(line.park.counts()).toMatchObject({ over: 0, ghosts: 1, done: 8 });
  const freed = line.park.runs().filter((run, i, runs) => runs.some((other, j) => j < i && other.started_at < run.started_at && (other.ended_at ?? 0) > run.started_at));
  // Two at a time again, but not before the drain was over; the ghost's first neighbour is no second slot.
  expect(freed.slice(1).every((run) => run.started_at >= (line.park.runs().find(({ ended }) => ended === "ghost")?.ended_at ?? Infinity))).toBe(true);
});

test("a card that hangs: the slot drains, and comes back after drain.max_s", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 2 }, timeouts: { read_s: 1 } });
  const key = await line.key();
  await line.park.setFault(CARD, { kind: "hang", busy_ms: 2_000 });
  const hung = await line.calls(2, { service, key });
  expect((await Promise.all(hung.map((caller) => caller.answered))).map(refusal)).toEqual(["504 origin_timeout", "504 origin_timeout"]);
  expect(await draining()).toBe(2);
  await line.park.heal();
  line.park.setService({ service_ms: 50 });
  const after = await line.calls(4, { service, key });
  await line.running(after);
  expect(tally(await Promise.all(after.map((caller) => caller.answered)))).toEqual({ 200: 4 });
  expect(line.park.counts().over).toBe(0);
});

test("a draining slot counts as its tenant's", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: 3 } });
  const [capped, other] = [await line.key({ limits: { concurrent: 1 } }), await line.key()];
  await breakOff(service, capped, 1_500);
  line.park.setService({ service_ms: 50 });
  const waiting = await line.call({ service, key: capped });
  expect((await line.ask({ service, key: other })).status).toBe(200);
  expect(line.starts(waiting)).toBe(0);
  expect((await waiting.answered).status).toBe(200);
});

test("reports free a draining slot from the second on, and never more than the surplus over what the card runs", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S } });
  const key = await line.key();
  const { token } = await line.portico.admin<{ token: string }>("POST", `/cards/${CARD}/token`);
  const beat = async (running: number) => {
    const answer = await fetch(`${line.portico.url}/admin/v1/cards/${CARD}/heartbeat`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ running, gpu_memory_ratio: 0.5, gpu_utilization: 0.5, at: new Date().toISOString() }),
    });
    expect(answer.ok, await answer.text()).toBe(true);
  };
  await beat(0);
  await beat(0);
  await breakOff(service, key, 1_500);
  // What was reported before the unclean end says nothing of it.
  expect(await draining()).toBe(1);
  await beat(1);
  await beat(1);
  await beat(1);
  expect(await draining()).toBe(1);
  await breakOff(service, key, 1_500);
  await eventually("the GPU is done", () => line.park.counts().running === 0);
  expect(await draining()).toBe(2);
  // The first report since the second unclean end: it may have been on its way before. The older one is long known.
  await beat(1);
  expect(await draining()).toBe(1);
  await beat(0);
  expect(await draining()).toBe(0);
  expect(tally(await Promise.all((await twoMore(service, key)).map((caller) => caller.answered)))).toEqual({ 200: 2 });
});

test("a first report of an idle card frees nothing, a second frees the slot and wakes who waits", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S } }, { cards: [CARD] });
  const key = await line.key();
  const { token } = await line.portico.admin<{ token: string }>("POST", `/cards/${CARD}/token`);
  await line.portico.admin("PATCH", `/cards/${CARD}`, { slots: 1 });
  await breakOff(service, key, 500);
  await eventually("the GPU is done", () => line.park.counts().running === 0);
  const waiting = await line.call({ service, key });
  await eventually("one waits", async () => (await line.queued(service)) === 1);
  // The agent of the card itself, once; then again and again.
  line.park.heartbeat({ url: line.portico.url, tokens: { [CARD]: token }, every_ms: 60_000 });
  await eventually("it has reported", () => line.park.reports()[0]?.heartbeats.sent === 1);
  await sleep(500);
  expect([line.starts(waiting), await draining()]).toEqual([0, 1]);
  line.park.heartbeat({ url: line.portico.url, tokens: { [CARD]: token }, every_ms: 60_000 });
  expect((await waiting.answered).status).toBe(200);
  line.park.heartbeat(null);
  await line.portico.admin("PATCH", `/cards/${CARD}`, { slots: 2 });
});

test("a probe frees a draining slot when the origin has ended its work, and not before", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S, probe: PROBE } });
  const key = await line.key();
  await breakOff(service, key, 4_000);
  line.park.setService({ service_ms: 3_000 });
  const callers = await line.calls(2, { service, key });
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: 2 });
  const [ghost, , second] = line.park.runs();
  expect(ghost?.ended).toBe("ghost");
  expect(second?.started_at).toBeGreaterThanOrEqual(ghost?.ended_at ?? Infinity);
  await eventually("nothing drains", async () => (await draining()) === 0);
});

test("a run that broke off while its server was not listening is not taken for one that never began", async () => {
  const service = await line.service({ ...ONCE, drain: { max_s: LONG_S, probe: PROBE } });
  const key = await line.key();
  line.park.setService({ service_ms: 12_000 });
  await line.park.setFault(CARD, { kind: "reset", at: "after", after_ms: 6_000, goes_on: true });
  const caller = await line.call({ service, key });
  await line.running([caller]);
  // As a server does that is restarted: it listens no more, and what it had begun it still works on.
  await line.park.setFault(CARD, { kind: "refuse" });
  const failed = await caller.answered;
  expect(refusal(failed)).toBe("502 origin_reset");
  expect(JSON.parse(failed.text)).toMatchObject({ error: { started: "unknown" } });
  await line.park.heal();
  const more = await twoMore(service, key);
  expect(tally(await Promise.all(more.map((one) => one.answered)))).toEqual({ 200: 2 });
  expect(line.park.counts()).toMatchObject({ over: 0, running: 1 });
});
