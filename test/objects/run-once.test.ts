/** A job's try when what it needs does not answer, and when what it finds is large. */
import { createExecutionContext } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { beforeAll, expect, test } from "vitest";
import { answerKey } from "../../worker/results/stored-answer.ts";
import type { Env } from "../../worker/env.ts";
import { keptAs, runOnce } from "../../worker/jobs/run-once.ts";
import { completeService } from "../../worker/services/kinds.ts";
import { fresh, jobSpec } from "./objects.ts";

const env = bindings as unknown as Env;
const TENANT = "ten_runonce";
const MIB = 1024 * 1024;
const RETRY_MS = 10_000;
/** Longer than an answer is waited for. */
const ANSWERED_MS_MAX = 15_000;

beforeAll(async () => {
  const config = { kind: "http", route: "/s/", paths: [{ method: "*", path: "*", as: "run" }] };
  const completed = JSON.stringify(completeService(config as Parameters<typeof completeService>[0], null));
  const service =
    "INSERT INTO services (id, route, config, paused, version, created_at) VALUES ('s', '/s/', ?, 0, 1, 1)";
  const tenant = "INSERT INTO tenants (id, name, limits, created_at) VALUES (?, 'n', '{}', 1)";
  await env.DB.batch([env.DB.prepare(service).bind(completed), env.DB.prepare(tenant).bind(TENANT)]);
});

async function made(): Promise<string> {
  const id = fresh("job_r").replaceAll("-", "");
  await env.JOB.getByName(id).create(jobSpec(TENANT, { id }));
  return id;
}

const stateOf = async (id: string) => (await env.JOB.getByName(id).view(TENANT))?.state;

const down = (): never => {
  throw new Error("D1 is down");
};

test("while D1 is down a job pauses, longer each time, and no try of it is lost", async () => {
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
  "a D1 that never answers is one that is down",
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

test("a film that is there already is left where it lies", async () => {
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
  // A window that was asked for before anybody could say that it is not wanted.
  expect(read).toBeLessThanOrEqual(1);
});
