import { expect, test } from "vitest";
import { eventually, sleep } from "./caller.ts";
import { expectSound, openLine, type Service } from "./line.ts";

const line = openLine();
const SLOTS = 12;

test("a caller that hangs up in line leaves it at once and never starts", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 100 });
  const letGo = await line.takeAll();
  const waiting = await line.calls(40, { service, key, headers: { "x-request-id": "left-the-line" } });
  await eventually("they stand in line", async () => (await line.queued(service)) === 40);
  for (const caller of waiting) caller.hangUp();
  await eventually("nobody stands in line", async () => (await line.queued(service)) === 0);
  expect(line.park.counts()).toMatchObject({ running: SLOTS, starts: SLOTS });
  const after = await line.call({ service, key });
  letGo();
  expect((await after.answered).status).toBe(200);
  expect(waiting.filter((caller) => line.starts(caller) > 0)).toEqual([]);
  expect(line.park.counts()).toMatchObject({ starts: SLOTS + 1, stopped: SLOTS, done: 1 });
  expect(await line.became("left-the-line", key)).toMatchObject({ state: "canceled", results: [] });
});

test("finish: a caller that hangs up during its run finds the result under its request id", async () => {
  const service = await line.service({ abandon: "finish" });
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const caller = await line.call({ service, key, headers: { "x-request-id": "my-own-id" } });
  await line.running([caller]);
  caller.hangUp();
  await sleep(1_000);
  // The run is still read after the caller has gone: the card does not notice, and the slot stays leased.
  expect(line.park.counts()).toMatchObject({ running: 1, left: 0 });
  expect(await line.leases()).toMatchObject([{ state: "leased" }]);
  expect(await line.became("my-own-id", key)).toMatchObject({ state: "running", results: [] });
  await eventually("it is done", () => line.park.counts().running === 0);
  await eventually("its result is kept", async () => (await line.became("my-own-id", key))?.state === "succeeded");
  const became = await line.became("my-own-id", key);
  expect(became).toMatchObject({ status: 200, results: [{ content_type: "image/png" }] });
  const result = await fetch(became?.results[0]?.url ?? "");
  expect([result.status, result.headers.get("content-type")]).toEqual([200, "image/png"]);
  expect((await result.bytes()).length).toBeGreaterThan(60);
  expect(line.park.counts()).toMatchObject({ starts: 1, done: 1, ghosts: 0, left: 0 });
});

test("cancel: a caller that hangs up during its run frees the slot at once", async () => {
  const service = await line.service({ abandon: "cancel" });
  const key = await line.key();
  line.park.setService({ service_ms: 60_000, ghost: false });
  const callers = await line.calls(SLOTS, { service, key, headers: { "x-request-id": "cancelled" } });
  await line.running(callers);
  const next = await line.call({ service, key });
  await eventually("one waits", async () => (await line.queued(service)) === 1);
  for (const caller of callers) caller.hangUp();
  await line.running([next]);
  expect(line.park.counts()).toMatchObject({ running: 1, stopped: SLOTS, ghosts: 0 });
  expect(await line.leases()).toHaveLength(1);
  next.hangUp();
  await line.conserved();
  expect(await line.became("cancelled", key)).toMatchObject({ state: "canceled", results: [] });
});

test("a caller that hangs up between the first and the last byte of the answer costs no slot", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 100 });
  const callers = await line.calls(SLOTS, { service, key });
  await Promise.all(callers.map(async (caller) => (await caller.head(), caller.hangUp())));
  await line.conserved();
  expect(line.park.counts()).toMatchObject({ starts: SLOTS, done: SLOTS });
});

test("callers that hang up at any moment of a request leave nothing behind", async () => {
  const services = [await line.service({ abandon: "finish" }), await line.service({ abandon: "cancel" })];
  const key = await line.key();
  line.park.setService({ service_ms: 150, ghost: false });
  const leave = async (moment: number) => {
    const service = services[moment % services.length];
    if (service === undefined) throw new Error("no service");
    const caller = await line.call({ service, key });
    await sleep(moment * 2);
    caller.hangUp();
  };
  await Promise.all(Array.from({ length: 150 }, (_, moment) => leave(moment)));
  await line.conserved();
  // Under `finish` an abandoned run was read to its end, under `cancel` it was stopped; none was left running.
  const { starts, done, stopped, left } = line.park.counts();
  expect({ ended: done + stopped, left }).toEqual({ ended: starts, left: stopped });
  await line.fillsUp();
});

const USERS = 40;
const LOAD_MS = 4_000;

/** Users that ask repeatedly; three in ten hang up after `leaveMs`. */
async function load(service: Service, key: string, leaveMs: number) {
  const counted = { ok: 0, left: 0, other: new Array<number>() };
  const until = performance.now() + LOAD_MS;
  const user = async (number: number) => {
    for (let turn = number; performance.now() < until; turn += 1) {
      const caller = await line.call({ service, key });
      if (turn % 10 < 3) {
        await sleep(leaveMs);
        caller.hangUp();
        counted.left += 1;
        continue;
      }
      const { status, whole } = await caller.answered;
      if (status === 200 && whole) counted.ok += 1;
      else counted.other.push(status);
    }
  };
  await Promise.all(Array.from({ length: USERS }, (_, number) => user(number)));
  return counted;
}

test.each([
  { abandon: "finish", ghost: true, leaveMs: 100 },
  { abandon: "finish", ghost: true, leaveMs: 400 },
  { abandon: "cancel", ghost: false, leaveMs: 100 },
])(
  "$abandon: three callers in ten hang up after $leaveMs ms, and every slot comes back",
  async ({ abandon, ghost, leaveMs }) => {
    const service = await line.service({ abandon });
    const key = await line.key();
    line.park.setService({ service_ms: 200, jitter: 0.3, ghost });
    const counted = await load(service, key, leaveMs);
    expect(counted.other).toEqual([]);
    expect(counted.ok).toBeGreaterThan(USERS);
    expect(counted.left).toBeGreaterThan(USERS / 2);
    await line.conserved();
    expectSound(line.park.counts());
    // An abandoned run is read to its end or stopped; none is left running.
    expect(line.park.counts()).toMatchObject({ over: 0, ghosts: 0 });
    await line.fillsUp();
  },
);
