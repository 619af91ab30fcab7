/** A job's run when something it needs does not answer, or when the stored answer is large. */
import { createExecutionContext } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import type { JobSpec } from "../../durable-objects/job-protocol.ts";
import { Line } from "../../worker/dispatch.ts";
import { Copy } from "../../worker/results/copy.ts";
import { answerKey } from "../../worker/results/stored-answer.ts";
import type { Env } from "../../worker/env.ts";
import { keptAs, runOnce } from "../../worker/jobs/run-once.ts";
import { completeService } from "../../worker/services/kinds.ts";
import { fresh, jobSpec, makeCard } from "./objects.ts";

const env = bindings as unknown as Env;
const TENANT = "ten_runonce";
const MIB = 1024 * 1024;
const RETRY_MS = 10_000;
/** Longer than a run waits for an answer. */
const ANSWERED_MS_MAX = 15_000;

afterEach(() => void vi.restoreAllMocks());

/** In the service `priced`, a stored answer costs as much as a run. */
const SERVICES = { s: {}, priced: { price: { flat: 1, hits: true } } };
let card = "";

beforeAll(async () => {
  for (const [id, more] of Object.entries(SERVICES)) {
    const config = { kind: "http", route: `/${id}/`, paths: [{ method: "*", path: "*", as: "run" }], ...more };
    const completed = JSON.stringify(completeService(config as Parameters<typeof completeService>[0], null));
    const service = "INSERT INTO services (id, route, config, paused, version, created_at) VALUES (?, ?, ?, 0, 1, 1)";
    await env.DB.prepare(service).bind(id, `/${id}/`, completed).run();
  }
  const tenant = `INSERT INTO tenants (id, name, limits, created_at) VALUES (?, 'n', '{"concurrent":3}', 1)`;
  await env.DB.prepare(tenant).bind(TENANT).run();
  card = (await makeCard("s")).id;
  const config = { version: 1, service: "s", paused: false, queue: { max: 10, timeoutMs: 60_000 } };
  await env.POOL.getByName("s").configure({ ...config, cards: [{ card, weight: 1 }] });
});

async function made(more: Partial<JobSpec> = {}): Promise<string> {
  const id = fresh("job_r").replaceAll("-", "");
  await env.JOB.getByName(id).create(jobSpec(TENANT, { id, ...more }));
  return id;
}

const stateOf = async (id: string) => (await env.JOB.getByName(id).view(TENANT))?.state;

const down = (): never => {
  throw new Error("D1 is down");
};

test("while D1 is down a job pauses, longer each time, and the failed runs do not count as tries", async () => {
  const id = await made();
  const DB = { prepare: down, batch: down } as unknown as D1Database;
  for (const start of [1, 2, 3]) {
    const from = Date.now();
    await runOnce({ ...env, DB }, createExecutionContext(), id, start);
    const state = await stateOf(id);
    expect(state).toMatchObject({ status: "queued", run: start });
    expect(state?.attempts).toHaveLength(start);
    const pauseMs = RETRY_MS * 2 ** (start - 1);
    expect((state?.retryAt ?? 0) - from).toBeGreaterThanOrEqual(pauseMs);
    expect((state?.retryAt ?? 0) - from).toBeLessThan(pauseMs + RETRY_MS);
  }
  expect(await env.JOB.getByName(id).begin(4)).toMatchObject({ over: false, attempts: 0 });
});

test(
  "a D1 that never answers is treated as down",
  async () => {
    const id = await made();
    const silence = new Promise<never>(() => {});
    const statement: object = new Proxy({}, { get: (_, name) => () => (name === "bind" ? statement : silence) });
    const DB = { prepare: () => statement, batch: () => silence } as unknown as D1Database;
    await runOnce({ ...env, DB }, createExecutionContext(), id, 1);
    expect((await stateOf(id))?.retryAt).not.toBeNull();
  },
  ANSWERED_MS_MAX,
);

test("a stored video is not read", async () => {
  const id = await made();
  const bulk = `results/${"a".repeat(25)}`;
  await env.RESULTS.put(bulk, new Uint8Array(12 * MIB), { customMetadata: { tenant: TENANT } });
  const meta = { status: "200", results: "", storedAt: "1", keptUntil: "1", maker: TENANT, service: "s", bulk };
  const customMetadata = {
    ...meta,
    expiresAt: String(Date.now() + 1e7),
    headers: '[["content-type","video/mp4"]]',
  };
  await env.RESULTS.put(answerKey(TENANT, await keptAs(id)), new Uint8Array(0), { customMetadata });
  let read = 0;
  const RESULTS = new Proxy(env.RESULTS, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      if (name !== "get") return typeof member === "function" ? member.bind(target) : member;
      return (key: string, options?: R2GetOptions) => {
        if (key === bulk) read += 1;
        return target.get(key, options);
      };
    },
  });
  await runOnce({ ...env, RESULTS }, createExecutionContext(), id, 1);
  expect((await stateOf(id))?.status).toBe("succeeded");
  // One read may have begun before the run could decline it.
  expect(read).toBeLessThanOrEqual(1);
});

/** Fakes the origin of all cards. */
function origin(status: number, type: string): void {
  vi.spyOn(globalThis, "fetch").mockImplementation(() =>
    Promise.resolve(new Response("{}", { status, headers: { "content-type": type } })),
  );
}

test("a run reports its start until the Job receives it, with the tenant's current cap", async () => {
  origin(200, "application/json");
  const id = await made();
  const job = env.JOB.getByName(id);
  const started = vi.fn((...told: Parameters<typeof job.started>) => job.started(...told));
  started.mockRejectedValueOnce(new Error("overloaded"));
  const stub = {
    begin: (start: number) => job.begin(start),
    stopped: (run: number, ms: number) => job.stopped(run, ms),
    finish: (...told: Parameters<typeof job.finish>) => job.finish(...told),
    started,
  };
  const JOB = { getByName: () => stub } as unknown as Env["JOB"];
  await runOnce({ ...env, JOB }, createExecutionContext(), id, 1);
  await vi.waitFor(() => expect(started.mock.calls).toEqual(Array.from({ length: 2 }, () => [1, card, 3])));
});

test("a later run of a job avoids the cards of its earlier runs and its own failed card", async () => {
  origin(500, "application/json");
  const id = await made();
  const job = env.JOB.getByName(id);
  await job.begin(1);
  await job.started(1, "earlier", 1);
  const error = { reason: "origin_status", param: null, started: "yes", facts: {}, retryAfterMs: null } as const;
  await job.finish(1, { kind: "again", error, retryAt: Date.now(), gpuMs: 0 });
  const retry = vi.spyOn(Line.prototype, "retry").mockResolvedValue(false);
  await runOnce(env, createExecutionContext(), id, 2);
  expect(retry.mock.calls).toEqual([[["earlier", card]]]);
});

test.each([
  ["priced", "price"],
  ["s", "token"],
] as const)("a job of service %s that finds a stored answer is charged: %s", async (service, charge) => {
  const id = await made({ service, path: `/${service}/run` });
  const meta = { status: "200", results: "", storedAt: "1", keptUntil: "1", maker: TENANT, service };
  const customMetadata = { ...meta, expiresAt: String(Date.now() + 1e7), headers: "[]" };
  await env.RESULTS.put(answerKey(TENANT, await keptAs(id)), "x", { customMetadata });
  await runOnce(env, createExecutionContext(), id, 1);
  expect(await stateOf(id)).toMatchObject({ status: "succeeded", bill: { charge } });
});

test("a streamed answer whose copy cannot be stored is reported to the Pool, and its job is retried", async () => {
  origin(200, "video/mp4");
  const id = await made();
  vi.spyOn(console, "error").mockReturnValue();
  const finished = vi.spyOn(Line.prototype, "finished");
  vi.spyOn(Copy.prototype, "take").mockRejectedValue(new Error("the copy is lost"));
  await runOnce(env, createExecutionContext(), id, 1);
  expect(finished).toHaveBeenCalledExactlyOnceWith({ kind: "alone" }, expect.anything());
  // A job whose answer was not kept has nothing to show.
  const state = await stateOf(id);
  expect(state).toMatchObject({ status: "queued", bill: null, attempts: [{ error: { reason: "internal" } }] });
});
