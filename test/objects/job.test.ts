/** The Job object: how it reports its end, and how it behaves when other objects do not answer or restart. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Bill, JobSpec, Outcome } from "../../durable-objects/job-protocol.ts";
import { eventually, evict, failureOf, fresh, jobSpec, passTime } from "./objects.ts";

const DAY_MS = 86_400_000;
/** After this time a Job asks the Backlog whether it was accepted. */
const STANDS_MS = 120_000;
const RETRY_MS = 20_000;
/** Longest wait for another object's answer. */
const ANSWER_MS_MAX = 10_000;
/** A job is shown within this time even if another object does not answer. */
const SHOWN_MS_MAX = 3_000;
const REFUSED = {
  reason: "origin_status",
  param: null,
  started: "yes",
  facts: { status: 500 },
  retryAfterMs: null,
} as const;
const QUOTA = { requestsPerMinute: 60, burst: 10, ownRate: false, quota: { results: 1, costMilli: null } };
const ALL: Bill = { status: 200, charge: "all", took: { results: 1 } };
const ANSWER = { status: 200, contentType: null, key: null, body: null };
const SUCCEEDED: Outcome = { kind: "succeeded", results: [], output: null, answer: ANSWER, gpuMs: 7, bill: ALL };

const ADMISSION = {
  clientId: null,
  service: "s",
  key: "key",
  results: 1,
  costMilli: 0,
  fingerprint: null,
  hits: false,
};

async function made(more: Partial<JobSpec> = {}) {
  const id = fresh("job_x").replaceAll("-", "");
  const tenant = fresh("tenant");
  const key = `jobs/${id}/input`;
  await env.RESULTS.put(key, "x");
  const spec = jobSpec(tenant, { id, input: { kind: "r2", key, bytes: 1 }, ...more });
  const admission = { ...ADMISSION, id };
  expect((await env.TENANT.getByName(tenant).admit(admission, QUOTA)).ok).toBe(true);
  await env.JOB.getByName(id).create(spec);
  return { id, tenant, key, stub: env.JOB.getByName(id) };
}

/** Whether the tenant's quota of one result per month is free. */
async function mayAgain(tenant: string): Promise<boolean> {
  const admission = { ...ADMISSION, id: fresh("req") };
  return (await env.TENANT.getByName(tenant).admit(admission, QUOTA)).ok;
}

const inputIsThere = async (key: string): Promise<boolean> => (await env.RESULTS.head(key)) !== null;

type Stub = Awaited<ReturnType<typeof made>>["stub"];

async function begun(stub: Stub, start: number): Promise<number> {
  const reply = await stub.begin(start);
  if (reply.over) throw new Error("it is over");
  return reply.run;
}

const noWord = () => new Promise<never>(() => undefined);

/** Replaces some of the object's bindings. */
async function amid(stub: Stub, others: object): Promise<void> {
  await runInDurableObject(stub, (job) => void Object.assign(job, { env: { ...env, ...others } }));
}

const alarmOf = (stub: Stub): Promise<number | null> =>
  runInDurableObject(stub, (_, { storage }) => storage.getAlarm());

test("if a Workflow runs a start twice, the later run counts and the earlier one is told to stop", async () => {
  const { stub, tenant } = await made();
  const first = await begun(stub, 1);
  const second = await begun(stub, 1);
  expect(await stub.stopped(first, 5_000)).toBe(true);
  expect(await stub.stopped(second, 0)).toBe(false);
  await stub.started(first, "card-a", 1);
  await stub.finish(first, SUCCEEDED);
  expect((await stub.view(tenant))?.state.status).toBe("queued");
  await stub.finish(second, SUCCEEDED);
  await stub.finish(second, SUCCEEDED);
  expect((await stub.view(tenant))?.state).toMatchObject({ status: "succeeded", gpuMs: 7 });
});

test.each(["canceled", "late"] as const)("a job %s before it starts frees its quota and input, once", async (how) => {
  const { stub, tenant, key } = await made();
  expect(await mayAgain(tenant)).toBe(false);
  await (how === "late" ? stub.late() : stub.cancel(tenant));
  await eventually(async () => expect(await inputIsThere(key)).toBe(false));
  expect(await env.TENANT.getByName(tenant).request((await stub.view(tenant))?.spec.id ?? "")).toMatchObject({
    state: how === "late" ? "failed" : "canceled",
  });
  await stub.cancel(tenant);
  expect(await mayAgain(tenant)).toBe(true);
  expect(await mayAgain(tenant)).toBe(false);
});

test("an end that the Tenant did not receive is reported again after a restart and counts once", async () => {
  const { id, stub, tenant, key } = await made();
  const run = await begun(stub, 1);
  await runInDurableObject(stub, (job) => {
    const deaf = { getByName: () => ({ record: () => Promise.reject(new Error("silent")) }) };
    Object.assign(job, { env: { ...env, TENANT: deaf } });
  });
  await stub.finish(run, SUCCEEDED);
  expect((await stub.view(tenant))?.state.status).toBe("succeeded");
  expect(await env.TENANT.getByName(tenant).request(id)).toMatchObject({ state: "queued" });
  await evict(stub);
  await runDurableObjectAlarm(stub);
  await eventually(async () =>
    expect(await env.TENANT.getByName(tenant).request(id)).toMatchObject({ state: "succeeded", status: 200 }),
  );
  expect(await inputIsThere(key)).toBe(false);
  const today = new Date().toISOString().slice(0, 10);
  const { rows } = await env.TENANT.getByName(tenant).usage({
    from: today,
    to: today,
    by: ["day"],
    limit: 10,
    after: null,
  });
  expect(rows).toMatchObject([{ requests: 1, results: 1, gpuMs: 7 }]);
});

test("a retry that does not begin is reported to the Backlog again and again until it begins", async () => {
  const { id, stub } = await made();
  const run = await begun(stub, 1);
  const told: unknown[][] = [];
  const changed = (...what: unknown[]) => Promise.resolve(void told.push(what));
  const backlog = { getByName: () => ({ changed }) };
  await runInDurableObject(stub, (job) => void Object.assign(job, { env: { ...env, BACKLOG: backlog } }));
  const retryAt = Date.now() + RETRY_MS;
  await stub.finish(run, { kind: "again", error: REFUSED, retryAt, gpuMs: 0 });
  const news = [id, "queued", { start: 1, at: retryAt }, null];
  await eventually(async () => expect(told).toEqual([news]));
  for (const times of [2, 3]) {
    passTime(RETRY_MS);
    await runDurableObjectAlarm(stub);
    expect(told).toEqual(Array.from({ length: times }, () => news));
  }
  await begun(stub, 2);
  await runDurableObjectAlarm(stub);
  expect(told.slice(3)).toEqual([[id, "queued", null, null]]);
});

test("a job whose submission was cut off is removed, costs nothing and leaves no input", async () => {
  const { stub, tenant, key } = await made();
  passTime(STANDS_MS);
  await runDurableObjectAlarm(stub);
  expect(await stub.view(tenant)).toBeNull();
  expect(await inputIsThere(key)).toBe(false);
  expect(await mayAgain(tenant)).toBe(true);
});

test("a Job that cannot ask the Backlog whether it was accepted asks again later until it gets an answer", async () => {
  const { stub, tenant } = await made();
  passTime(STANDS_MS);
  await amid(stub, { BACKLOG: { getByName: () => ({ stands: () => Promise.reject(new Error("overloaded")) }) } });
  // The platform clears the alarm before it calls the handler.
  const failed = await runInDurableObject(stub, async (job, { storage }) => {
    await storage.deleteAlarm();
    return failureOf(async () => job.alarm());
  });
  expect([failed, await alarmOf(stub)]).toEqual(["Error: overloaded", Date.now() + STANDS_MS]);
  await amid(stub, { BACKLOG: { getByName: () => ({ stands: () => Promise.resolve(true) }) } });
  await runDurableObjectAlarm(stub);
  expect(await alarmOf(stub)).toBeNull();
  expect((await stub.view(tenant))?.state.status).toBe("queued");
});

test("a report made while a Job asks whether it was accepted keeps its own alarm", async () => {
  const { stub, tenant } = await made();
  passTime(STANDS_MS);
  const { promise: stands, resolve } = Promise.withResolvers<boolean>();
  await amid(stub, { BACKLOG: { getByName: () => ({ stands: () => stands, changed: async () => undefined }) } });
  await runInDurableObject(stub, async (job, { storage }) => {
    const asking = job.alarm();
    await job.cancel(tenant);
    await eventually(async () => expect(await storage.getAlarm()).toBeGreaterThan(Date.now() + STANDS_MS));
    resolve(true);
    await asking;
  });
  expect(await alarmOf(stub)).toBeGreaterThan(Date.now() + STANDS_MS);
});

test.each(["POOL", "BACKLOG"] as const)("a job is shown although its %s does not answer", async (silent) => {
  const { stub, tenant } = await made();
  await amid(stub, { [silent]: { getByName: () => ({ outlook: noWord, place: noWord }) } });
  const from = performance.now();
  expect(await stub.view(tenant)).toMatchObject({ state: { status: "queued" }, waiting: null });
  expect(performance.now() - from).toBeLessThan(SHOWN_MS_MAX);
});

test("a job behind its tenant's other jobs waits for the tenant's cap, even while a slot is free", async () => {
  const { stub, tenant } = await made();
  const outlook = { waiting: { on: null, position: 1, startMs: 0 }, serviceMs: 500, slotMs: 250 };
  const sleeps = async (ahead: number) => {
    const place = { ahead, concurrent: 2 };
    await amid(stub, {
      BACKLOG: { getByName: () => ({ place: () => Promise.resolve(place) }) },
      POOL: { getByName: () => ({ outlook: () => Promise.resolve(outlook) }) },
    });
    return (await stub.view(tenant))?.waiting;
  };
  expect(await sleeps(0)).toEqual({ on: null, position: 1, startMs: 0 });
  expect(await sleeps(2)).toEqual({ on: "tenant_cap", position: 3, startMs: 500 });
});

test("a follower of a job receives its position although the Pool once did not answer", async () => {
  const { stub } = await made();
  const waiting = { on: "slots_busy", position: 3, startMs: null };
  let asked = 0;
  const outlook = (): Promise<object> =>
    ++asked === 1 ? noWord() : Promise.resolve({ waiting, serviceMs: null, slotMs: null });
  await amid(stub, { POOL: { getByName: () => ({ outlook }) } });
  expect(await stub.events(1, 5_000)).toMatchObject([{ type: "position", position: 3 }]);
});

test("a thousand followers of a job cost one look-up of its place per second, and all see each change", async () => {
  const { stub, tenant } = await made();
  let looks = 0;
  const place = { on: "slots_busy", position: 3, startMs: null };
  const outlook = (): Promise<object> => {
    looks++;
    return Promise.resolve({ waiting: place, serviceMs: null, slotMs: null });
  };
  await amid(stub, { POOL: { getByName: () => ({ outlook }) } });
  const follow = (after: number) => Promise.all(Array.from({ length: 1_000 }, () => stub.events(after, 10_000)));
  const from = performance.now();
  const placed = await follow(1);
  expect(new Set(placed.map((events) => JSON.stringify(events))).size).toBe(1);
  const ended = follow(placed[0]?.at(-1)?.id ?? 0);
  await stub.cancel(tenant);
  for (const events of await ended) expect(events.at(-1)?.type).toBe("done");
  expect(looks).toBeLessThanOrEqual(2 + Math.ceil((performance.now() - from) / 1_000));
});

test("the deletion of a tenant does not wait for an input that cannot be deleted", async () => {
  const { stub, tenant } = await made();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  await amid(stub, { RESULTS: { delete: noWord } });
  const failed = await runInDurableObject(stub, (job) => {
    const failing = failureOf(() => job.discard());
    vi.advanceTimersByTime(ANSWER_MS_MAX);
    return failing;
  });
  expect(failed).toMatch("no answer");
  expect(await stub.view(tenant)).not.toBeNull();
});

test("a job that waits for more than a day stays charged until it is canceled, and is then refunded", async () => {
  const { id, stub, tenant } = await made();
  await runDurableObjectAlarm(env.TENANT.getByName(tenant));
  passTime(2 * DAY_MS);
  await runDurableObjectAlarm(env.TENANT.getByName(tenant));
  await evict(env.TENANT.getByName(tenant));
  expect(await mayAgain(tenant)).toBe(false);
  await stub.cancel(tenant);
  await eventually(async () => expect(await mayAgain(tenant)).toBe(true));
  expect(id).toMatch(/^job_/);
});

test("deleting a job with its tenant leaves nothing behind and stops its run", async () => {
  const { stub, tenant, key } = await made();
  const run = await begun(stub, 1);
  await stub.discard();
  expect(await stub.stopped(run, 5_000)).toBe(true);
  await stub.finish(run, SUCCEEDED);
  expect(await stub.view(tenant)).toBeNull();
  expect(await inputIsThere(key)).toBe(false);
  await runInDurableObject(stub, async (_, { storage }) => expect(await storage.getAlarm()).toBeNull());
});

test("an end whose report fails after its alarm has fired is reported again", async () => {
  const { id, stub, tenant } = await made();
  const run = await begun(stub, 1);
  const { promise: heard, reject } = Promise.withResolvers<never>();
  let asked = 0;
  await amid(stub, { TENANT: { getByName: () => ({ record: () => (asked++, heard) }) } });
  await stub.finish(run, SUCCEEDED);
  await eventually(async () => expect([asked, await alarmOf(stub)]).toEqual([1, expect.any(Number)]));
  // The alarm fires while the report is in progress, and waits for that report.
  await runInDurableObject(stub, (_, { storage }) => storage.deleteAlarm());
  reject(new Error("Network connection lost."));
  await eventually(async () => expect(await alarmOf(stub)).toBeGreaterThan(Date.now()));
  await amid(stub, {});
  await runDurableObjectAlarm(stub);
  expect(await env.TENANT.getByName(tenant).request(id)).toMatchObject({ state: "succeeded" });
});

test("a job that does not exist has no table, neither before its creation nor after its deletion", async () => {
  const { stub } = await made();
  const never = env.JOB.getByName(fresh("job_never"));
  await stub.discard();
  for (const each of [stub, never]) {
    expect([await each.view("t"), await each.steps(), await each.events(0, 0)]).toEqual([null, [], []]);
    const tables = await runInDurableObject(each, (_, { storage }) =>
      storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'events'").toArray(),
    );
    expect(tables).toEqual([]);
  }
});

test("a starting job reports to the Backlog how many jobs its tenant may run now", async () => {
  const { id, stub } = await made();
  const run = await begun(stub, 1);
  const told: unknown[][] = [];
  const changed = (...what: unknown[]) => Promise.resolve(void told.push(what));
  await amid(stub, { BACKLOG: { getByName: () => ({ changed }) } });
  await stub.started(run, "card", 50);
  await eventually(async () => expect(told).toEqual([[id, "running", null, 50]]));
});

test("a job that missed its start deadline fails, unless it has already run", async () => {
  const [late, ran] = [await made(), await made()];
  expect(await late.stub.late()).toBe("failed");
  const run = await begun(ran.stub, 1);
  await ran.stub.started(run, "card", 1);
  await ran.stub.finish(run, { kind: "again", error: REFUSED, retryAt: Date.now() + RETRY_MS, gpuMs: 0 });
  expect(await ran.stub.late()).toBe("queued");
  expect(await env.JOB.getByName(fresh("job_never")).late()).toBeNull();
});
