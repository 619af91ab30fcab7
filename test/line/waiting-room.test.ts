import { afterEach, expect, test } from "vitest";
import { type Caller, eventually, refusal, sleep, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const CARDS = 2;
const SLOTS = 4;
const line = openLine({ park: { servers: 1, gpus: CARDS } });
/** Pause between two callers whose order matters, so that they arrive in the order of sending. */
const APART_MS = 150;

let letGo = () => {};

/** Occupies every slot until `letGo`. */
async function takeAll(): Promise<void> {
  line.park.setService({ service_ms: 100 });
  letGo = await line.takeAll();
}

afterEach(() => letGo());

/** Sends requests one after the other. */
async function inTurn(count: number, service: Service, key: string): Promise<Caller[]> {
  const callers: Caller[] = [];
  for (let i = 0; i < count; i++) {
    callers.push(await line.call({ service, key }));
    await sleep(APART_MS);
  }
  return callers;
}

const inLine = (service: Service, count: number) =>
  eventually(`${count} in line`, async () => (await line.queued(service)) === count);

/** Prompts in the order in which cards started them. */
const started = () => line.park.runs().map((run) => run.prompt);

test("within a tenant, the request that arrives first starts first", async () => {
  const service = await line.service({}, { cards: ["gpu-01-0"] });
  const key = await line.key();
  await takeAll();
  const callers = await inTurn(8, service, key);
  await inLine(service, 8);
  letGo();
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: 8 });
  const order = started().filter((prompt) => callers.some((caller) => caller.prompt === prompt));
  // With two slots, neighbors may swap on their way to the card; no request overtakes more than one.
  for (const [place, { prompt }] of callers.entries())
    expect(Math.abs(order.indexOf(prompt) - place)).toBeLessThanOrEqual(1);
});

test("a tenant at its concurrent number is passed over, not refused", async () => {
  const service = await line.service();
  const [capped, free] = [await line.key({ limits: { concurrent: 1 } }), await line.key()];
  line.park.setService({ service_ms: 1_500 });
  const first = await inTurn(3, service, capped);
  await inLine(service, 2);
  const later = await line.calls(2, { service, key: free });
  await line.running(later);
  // The other tenant's requests run although they came later; the capped tenant has one run.
  expect(first.map((caller) => line.starts(caller))).toEqual([1, 0, 0]);
  expect(tally(await Promise.all([...first, ...later].map((caller) => caller.answered)))).toEqual({ 200: 5 });
  const runs = line.park.runs().filter((run) => first.some(({ prompt }) => run.prompt === prompt));
  for (const [i, run] of runs.entries()) {
    if (i > 0) expect(run.started_at).toBeGreaterThanOrEqual(runs[i - 1]?.ended_at ?? Infinity);
  }
});

test("the concurrent number counts per service", async () => {
  const [one, other] = [await line.service(), await line.service()];
  const key = await line.key({ limits: { concurrent: 1 } });
  line.park.setService({ service_ms: 2_000 });
  const callers = [await line.call({ service: one, key }), await line.call({ service: other, key })];
  await line.running(callers);
  expect(line.park.counts().running).toBe(2);
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: 2 });
});

test("a tenant with more than its waiting number in line is refused, and no other tenant is", async () => {
  const service = await line.service();
  const [small, other] = [await line.key({ limits: { waiting: 3 } }), await line.key()];
  await takeAll();
  const waiting = await inTurn(3, service, small);
  await inLine(service, 3);
  const refused = await line.ask({ service, key: small });
  expect(refusal(refused)).toBe("429 concurrency");
  expect(Number(refused.header("retry-after"))).toBeGreaterThanOrEqual(1);
  const others = await inTurn(2, service, other);
  await inLine(service, 5);
  // A place that becomes free can be taken again.
  waiting.pop()?.hangUp();
  await inLine(service, 4);
  const again = await line.call({ service, key: small });
  await inLine(service, 5);
  letGo();
  const answered = [...waiting, ...others, again].map((caller) => caller.answered);
  expect(tally(await Promise.all(answered))).toEqual({ 200: 5 });
});

test("the waiting room is bounded: a full one refuses, but a tenant below its share displaces the newest", async () => {
  const service = await line.service({ queue: { max: 5 } });
  const [many, few] = [await line.key(), await line.key()];
  await takeAll();
  const long = await inTurn(5, service, many);
  await inLine(service, 5);
  const full = await line.ask({ service, key: many });
  expect(refusal(full)).toBe("503 queue_full");
  expect(Number(full.header("retry-after"))).toBeGreaterThanOrEqual(1);
  expect(Number(full.header("retry-after"))).toBeLessThanOrEqual(30);
  const short = await inTurn(2, service, few);
  const displaced = await Promise.all(long.splice(3).map((caller) => caller.answered));
  expect(displaced.map(refusal)).toEqual(["503 queue_full", "503 queue_full"]);
  await inLine(service, 5);
  letGo();
  expect(tally(await Promise.all([...long, ...short].map((caller) => caller.answered)))).toEqual({ 200: 5 });
  expect(line.park.counts().starts).toBe(SLOTS + 5);
});

test("a request waits in line for queue.timeout_s and no longer", async () => {
  const service = await line.service({ queue: { timeout_s: 2 } });
  const key = await line.key();
  await takeAll();
  const from = performance.now();
  const refused = await line.ask({ service, key });
  const waitedMs = performance.now() - from;
  expect(refusal(refused)).toBe("503 queue_timeout");
  expect(Number(refused.header("retry-after"))).toBeGreaterThanOrEqual(1);
  expect(waitedMs).toBeGreaterThanOrEqual(2_000);
  expect(waitedMs).toBeLessThan(8_000);
  expect(line.park.counts().starts).toBe(SLOTS);
});

test("a refused request costs no token of the tenant's rate", async () => {
  const service = await line.service({ queue: { max: 0 } });
  const key = await line.key({ limits: { requests_per_minute: 1, burst: 2 } });
  await takeAll();
  for (let i = 0; i < 6; i++) expect(refusal(await line.ask({ service, key }))).toBe("503 queue_full");
  letGo();
  await line.conserved();
  expect((await line.ask({ service, key })).status).toBe(200);
});
