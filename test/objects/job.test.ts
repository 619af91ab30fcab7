/** The Job's shell: what it tells of its end, and when nobody listens or everything restarts in between. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Bill, JobSpec, Outcome } from "../../durable-objects/job-protocol.ts";
import { eventually, evict, fresh, jobSpec, passTime } from "./objects.ts";

const DAY_MS = 86_400_000;
/** A job that does not stand after so long is asked after. */
const STANDS_MS = 120_000;
const RETRY_MS = 20_000;
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

/** Whether the month's only result may be asked for again. */
async function mayAgain(tenant: string): Promise<boolean> {
  const admission = { ...ADMISSION, id: fresh("req") };
  return (await env.TENANT.getByName(tenant).admit(admission, QUOTA)).ok;
}

const inputIsThere = async (key: string): Promise<boolean> => (await env.RESULTS.head(key)) !== null;

async function begun(stub: Awaited<ReturnType<typeof made>>["stub"], start: number): Promise<number> {
  const reply = await stub.begin(start);
  if (reply.over) throw new Error("it is over");
  return reply.run;
}

test("a Workflow that runs the same start twice: the later run counts, the earlier one is told to stop", async () => {
  const { stub, tenant } = await made();
  const first = await begun(stub, 1);
  const second = await begun(stub, 1);
  expect(await stub.stopped(first, 5_000)).toBe(true);
  expect(await stub.stopped(second, 0)).toBe(false);
  await stub.started(first, "card-a");
  await stub.finish(first, SUCCEEDED);
  expect((await stub.view(tenant))?.state.status).toBe("queued");
  await stub.finish(second, SUCCEEDED);
  await stub.finish(second, SUCCEEDED);
  expect((await stub.view(tenant))?.state).toMatchObject({ status: "succeeded", gpuMs: 7 });
});

test.each(["canceled", "late"] as const)("%s while it sleeps: quota back, once, and its input is gone", async (how) => {
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

test("an end that its Tenant did not hear is told again after a restart, and counts once", async () => {
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

test("a retry that does not begin is told to its Backlog once more, and once more, until it does", async () => {
  const { id, stub } = await made();
  const run = await begun(stub, 1);
  const told: unknown[][] = [];
  const changed = (...what: unknown[]) => Promise.resolve(void told.push(what));
  const backlog = { getByName: () => ({ changed }) };
  await runInDurableObject(stub, (job) => void Object.assign(job, { env: { ...env, BACKLOG: backlog } }));
  const retryAt = Date.now() + RETRY_MS;
  await stub.finish(run, { kind: "again", error: REFUSED, retryAt, gpuMs: 0 });
  const news = [id, "queued", { start: 1, at: retryAt }];
  await eventually(async () => expect(told).toEqual([news]));
  for (const times of [2, 3]) {
    passTime(RETRY_MS);
    await runDurableObjectAlarm(stub);
    expect(told).toEqual(Array.from({ length: times }, () => news));
  }
  await begun(stub, 2);
  await runDurableObjectAlarm(stub);
  expect(told.slice(3)).toEqual([[id, "queued", null]]);
});

test("a submission that was cut off before it stood: its job goes, costs nothing, and leaves no input", async () => {
  const { stub, tenant, key } = await made();
  passTime(STANDS_MS);
  await runDurableObjectAlarm(stub);
  expect(await stub.view(tenant)).toBeNull();
  expect(await inputIsThere(key)).toBe(false);
  expect(await mayAgain(tenant)).toBe(true);
});

test("a job that waits for more than a day is charged and given back all the same", async () => {
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

test("what its tenant's deletion takes away leaves nothing, and whoever runs it is told to stop", async () => {
  const { stub, tenant, key } = await made();
  const run = await begun(stub, 1);
  await stub.discard();
  expect(await stub.stopped(run, 5_000)).toBe(true);
  await stub.finish(run, SUCCEEDED);
  expect(await stub.view(tenant)).toBeNull();
  expect(await inputIsThere(key)).toBe(false);
  await runInDurableObject(stub, async (_, { storage }) => expect(await storage.getAlarm()).toBeNull());
});
