import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import type { Delivery, Notice } from "../../durable-objects/courier-protocol.ts";
import { eventually, fresh, jobSpec, passTime } from "./objects.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const URL_THERE = "https://example.com/hook";

afterEach(() => void vi.restoreAllMocks());

interface Sending {
  url: string;
  id: string | null;
  body: unknown;
}

/** Fakes all receivers; `answers` is called for each attempt to send. */
function receivers(answers: (url: string) => Response | Promise<Response>): Sending[] {
  const sendings: Sending[] = [];
  vi.spyOn(globalThis, "fetch").mockImplementation((input, init) => {
    const [url, body] = [input as string, JSON.parse(init?.body as string) as unknown];
    sendings.push({ url, id: new Headers(init?.headers).get("webhook-id"), body });
    return Promise.resolve(answers(url));
  });
  return sendings;
}

const ok = (): Response => new Response(null, { status: 200 });

/** Creates a job of this tenant that has ended, and returns its id. */
async function ended(tenant: string): Promise<string> {
  const spec = jobSpec(tenant);
  const job = env.JOB.getByName(spec.id);
  await job.create(spec);
  await job.cancel(tenant);
  return spec.id;
}

async function someCourier() {
  const tenant = fresh("tenant");
  const id = await ended(tenant);
  const notice: Notice = {
    tenant,
    subject: { kind: "job", id },
    type: "job.canceled",
    at: Date.now(),
    url: URL_THERE,
    dialect: "native",
  };
  return { stub: env.COURIER.getByName(tenant), tenant, notice };
}

type Stub = Awaited<ReturnType<typeof someCourier>>["stub"];

const all = (stub: Stub): Promise<Delivery[]> => stub.list({ state: null, before: null, limit: 100 });

async function expectStates(stub: Stub, ...states: Delivery["state"][]): Promise<void> {
  await eventually(async () => expect((await all(stub)).map(({ state }) => state)).toEqual(states));
}

test("Every object method is idempotent: an event that is reported many times is one delivery", async () => {
  const sendings = receivers(ok);
  const { stub, notice } = await someCourier();
  await Promise.all(Array.from({ length: 20 }, () => stub.enqueue(notice)));
  await expectStates(stub, "delivered");
  await stub.enqueue(notice);
  await expectStates(stub, "delivered");
  expect(sendings).toHaveLength(1);
  expect(sendings[0]?.id).toBe(`evt_${notice.subject.id}_canceled`);
});

test("the Courier checks the address at each attempt and never sends to a private one", async () => {
  const sendings = receivers(ok);
  const { stub, notice } = await someCourier();
  for (const [i, url] of ["https://10.0.0.1/", "https://[::ffff:7f00:1]/", "http://localhost/"].entries())
    await stub.enqueue({ ...notice, url, type: `job.test${i}` });
  await eventually(async () => {
    for (const { tries } of await all(stub)) expect(tries).toMatchObject([{ status: null }]);
  });
  expect((await all(stub)).map(({ tries }) => tries[0]?.error)).toEqual([
    "the URL must use https:",
    "the URL must name a public host",
    "the URL must name a public host",
  ]);
  expect(sendings).toEqual([]);
});

test("the alarm sends deliveries that are due later, also after a restart", async () => {
  let status = 500;
  const sendings = receivers(() => new Response(null, { status }));
  const { stub, notice } = await someCourier();
  passTime(0);
  await stub.enqueue(notice);
  await eventually(async () => expect((await all(stub))[0]?.tries).toHaveLength(1));
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(sendings).toHaveLength(1);
  await evictDurableObject(stub);
  passTime(6_000);
  status = 200;
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  await expectStates(stub, "delivered");
  const ids = sendings.map((sending) => sending.id);
  expect(ids).toEqual([ids[0], ids[0]]);
});

test("an attempt that a crash interrupts is repeated and does not count", async () => {
  const never = new Promise<Response>(() => undefined);
  const sendings = receivers(() => (sendings.length === 1 ? never : ok()));
  const { stub, notice } = await someCourier();
  await stub.enqueue(notice);
  await eventually(async () => expect(sendings).toHaveLength(1));
  await expect(runInDurableObject(stub, (_, state) => state.abort("crash"))).rejects.toThrow("crash");
  const again = env.COURIER.getByName(notice.tenant);
  expect(await runDurableObjectAlarm(again)).toBe(true);
  await expectStates(again, "delivered");
  expect((await all(again))[0]?.tries).toMatchObject([{ number: 1, status: 200 }]);
});

test("the Courier sends at most eight deliveries at a time, and sends all of them in the end", async () => {
  let [open, most] = [0, 0];
  const sendings = receivers(async () => {
    most = Math.max(most, ++open);
    await scheduler.wait(20);
    open--;
    return ok();
  });
  const { stub, notice } = await someCourier();
  await Promise.all(Array.from({ length: 40 }, (_, i) => stub.enqueue({ ...notice, type: `job.test${i}` })));
  await eventually(async () => {
    expect((await stub.list({ state: "delivered", before: null, limit: 100 })).length).toBe(40);
  });
  expect(most).toBe(8);
  expect(sendings).toHaveLength(40);
});

test("a 410 disables all pending deliveries to that address, and to no other address", async () => {
  let status = 500;
  receivers((url) => new Response(null, { status: url === URL_THERE ? status : 500 }));
  const { stub, notice } = await someCourier();
  passTime(0);
  await stub.enqueue({ ...notice, type: "job.first" });
  await stub.enqueue({ ...notice, type: "job.elsewhere", url: "https://example.com/other" });
  await eventually(async () => {
    for (const { tries } of await all(stub)) expect(tries).toHaveLength(1);
  });
  status = 410;
  await stub.enqueue({ ...notice, type: "job.second" });
  await expectStates(stub, "disabled", "pending", "disabled");
});

test("a delivery fails at once if its job no longer exists", async () => {
  const sendings = receivers(ok);
  const { stub, notice } = await someCourier();
  await stub.enqueue({ ...notice, subject: { kind: "job", id: "job_gone" } });
  await expectStates(stub, "failed");
  expect(sendings).toEqual([]);
});

test("a notice about another tenant's job is never sent", async () => {
  const sendings = receivers(ok);
  const { stub, notice } = await someCourier();
  await stub.enqueue({ ...notice, subject: { kind: "job", id: await ended(fresh("tenant")) } });
  await expectStates(stub, "failed");
  expect(sendings).toEqual([]);
});

test("the webhook of a batch contains the batch's counts", async () => {
  const sendings = receivers(ok);
  const { stub, tenant, notice } = await someCourier();
  const [batch, job] = [fresh("bat"), fresh("job")];
  const created = { createdAt: Date.now(), startDeadlineAt: null, keepMs: DAY_MS };
  const backlog = env.BACKLOG.getByName(tenant);
  await backlog.reserve(
    [{ id: job, service: "s", priority: "normal", ...created }],
    { id: batch, tenant, webhook: null },
    {
      waiting: 10,
      concurrent: { s: 0 },
    },
  );
  await backlog.stand([job]);
  await backlog.changed(job, "failed", null);
  await stub.enqueue({ ...notice, subject: { kind: "batch", id: batch }, type: "batch.finished" });
  await expectStates(stub, "delivered");
  expect(sendings[0]?.body).toMatchObject({
    type: "batch.finished",
    data: { id: batch, counts: { failed: 1, succeeded: 0 }, jobs: [job] },
  });
});

test("deliveries are kept for 30 days and removed in steps", async () => {
  receivers(ok);
  const { stub, notice } = await someCourier();
  passTime(0);
  await stub.enqueue(notice);
  await expectStates(stub, "delivered");
  await runInDurableObject(stub, (_, state) => {
    state.storage.sql.exec(`
      WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1500)
      INSERT INTO deliveries
      (id, event, tenant, kind, subject, type, at, url, dialect, state, tries, created_at, next_at, ended_at)
      SELECT 'dlv_' || n, 'evt_' || n, 't', 'job', 'j', 'job.failed', 1, 'u', 'native', 'failed', '[]', 1, NULL, 1
      FROM numbers`);
  });
  const count = () =>
    runInDurableObject(stub, (_, { storage }) => storage.sql.exec("SELECT 1 FROM deliveries").toArray().length);
  passTime(29 * DAY_MS);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await count()).toBe(501);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await count()).toBe(1);
  passTime(DAY_MS + 1);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await count()).toBe(0);
  expect(await runDurableObjectAlarm(stub)).toBe(false);
});

/** Inserts deliveries with these values of `place`. */
async function laid(stub: Stub, places: number[], state: Delivery["state"], endedAt: number | null): Promise<void> {
  const nextAt = endedAt === null ? Date.now() + DAY_MS : null;
  await runInDurableObject(stub, (_, { storage }) => {
    for (const place of places)
      storage.sql.exec(
        `INSERT INTO deliveries
         (place, id, event, tenant, kind, subject, type, at, url, dialect, state, tries, created_at, next_at, ended_at)
         VALUES (?, ?, ?, 't', 'job', 'j', 'job.failed', 1, 'u', 'native', ?, '[]', 1, ?, ?)`,
        place,
        `dlv_${place}`,
        `evt_${place}`,
        state,
        nextAt,
        endedAt,
      );
  });
}

/** Runs a sweep; returns the remaining rows, newest first, and the time until the next alarm, in ms. */
async function swept(stub: Stub) {
  const nextMs = await runInDurableObject(stub, async (courier, { storage }) => {
    await storage.deleteAlarm();
    await courier.alarm();
    return ((await storage.getAlarm()) ?? 0) - Date.now();
  });
  return { nextMs, rows: (await all(stub)).map(({ place, state }) => [place, state]) };
}

test("a pending delivery fails, with the reason, once 50,000 newer deliveries are queued", async () => {
  const { stub } = await someCourier();
  passTime(0);
  await laid(stub, [1, 2, 50_001], "pending", null);
  expect((await swept(stub)).rows).toEqual([
    [50_001, "pending"],
    [2, "pending"],
    [1, "failed"],
  ]);
  const tries = [{ number: 1, status: null, error: "given up: 50,000 newer deliveries were queued after it" }];
  expect(await stub.delivery("dlv_1")).toMatchObject({ tries, nextAt: null, endedAt: Date.now() });
  // No delivery outlives the newest 100,000.
  await laid(stub, [100_002], "pending", null);
  passTime(HOUR_MS);
  expect((await swept(stub)).rows).toEqual([
    [100_002, "pending"],
    [50_001, "failed"],
  ]);
});

test("a sweep handles 1,000 rows of a kind; the next follows in 1 s if any are left, else in 6 h", async () => {
  const { stub } = await someCourier();
  passTime(0);
  const some = Array.from({ length: 1_500 }, (_, i) => i + 1);
  const outrun = async () => (await stub.list({ state: "failed", before: null, limit: 2_000 })).length;
  await laid(stub, [...some, 60_000], "pending", null);
  expect([(await swept(stub)).nextMs, await outrun()]).toEqual([1_000, 1_000]);
  expect([(await swept(stub)).nextMs, await outrun()]).toEqual([6 * HOUR_MS, 1_500]);
  passTime(HOUR_MS);
  const old = Array.from({ length: 300 }, (_, i) => 60_001 + i);
  await laid(stub, old, "delivered", Date.now() - 31 * DAY_MS);
  expect(await swept(stub)).toMatchObject({ nextMs: 6 * HOUR_MS, rows: { length: 100 } });
  expect((await all(stub))[0]).toMatchObject({ place: 60_000 });
});

test("an alarm within an hour of a sweep does not sweep again", async () => {
  const { stub } = await someCourier();
  passTime(0);
  await laid(stub, [1], "pending", null);
  await swept(stub);
  await laid(stub, [2], "delivered", Date.now() - 31 * DAY_MS);
  passTime(HOUR_MS - 1);
  expect(await swept(stub)).toEqual({
    nextMs: 6 * HOUR_MS,
    rows: [
      [2, "delivered"],
      [1, "pending"],
    ],
  });
  passTime(1);
  expect((await swept(stub)).rows).toEqual([[1, "pending"]]);
});

test("generations of the signing secret survive a restart", async () => {
  const { stub } = await someCourier();
  passTime(0);
  expect(await stub.generations()).toEqual([1]);
  expect(await stub.rotate()).toEqual([2, 1]);
  await evictDurableObject(stub);
  expect(await stub.generations()).toEqual([2, 1]);
  passTime(DAY_MS);
  expect(await stub.generations()).toEqual([2]);
});
