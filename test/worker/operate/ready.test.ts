import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Env } from "../../../worker/env.ts";
import { operateApp } from "../../../worker/operate/index.ts";
import { within } from "../../../worker/operate/live.ts";
import { readiness } from "../../../worker/operate/ready.ts";

/** Bindings of which these are something else. */
function instead(parts: Record<string, unknown>): Env {
  return new Proxy(env, { get: (target, name) => (name in parts ? parts[String(name)] : Reflect.get(target, name)) });
}

const broken = new Proxy(
  {},
  {
    get: () => () => {
      throw new Error("secret-host.internal is down");
    },
  },
);

test("with everything in place it is ready", async () => {
  expect(await readiness(env)).toEqual({ status: "ready", reasons: [] });
});

test("what does not work is named by a word that is no host", async () => {
  const cases = [
    [{ KEY_SECRET: "short" }, "configuration"],
    [{ DB: broken }, "database"],
    [{ RESULTS: broken }, "results"],
    [{ POOL: broken }, "objects"],
  ] as const;
  for (const [parts, reason] of cases)
    expect(await readiness(instead(parts))).toEqual({ status: "not_ready", reasons: [reason] });
});

test("what does not answer counts as broken after its time", async () => {
  const silent = { head: () => new Promise<never>(() => {}) };
  const from = Date.now();
  // A timer of this request's own keeps the runtime from taking the wait for a hang.
  const outcome = await within(5_000, () => readiness(instead({ RESULTS: silent })));
  expect(outcome).toEqual({ ok: true, value: { status: "not_ready", reasons: ["results"] } });
  expect(Date.now() - from).toBeGreaterThanOrEqual(1_900);
  expect(Date.now() - from).toBeLessThan(4_000);
});

test("a deployment that is not ready says so with 503", async () => {
  const answer = await operateApp.request("/ready", {}, instead({ DB: broken }));
  expect([answer.status, await answer.json()]).toEqual([503, { status: "not_ready", reasons: ["database"] }]);
});

test("health touches nothing", async () => {
  const untouchable = new Proxy(
    {},
    {
      get: (_, name) => {
        throw new Error(`health read ${String(name)}`);
      },
    },
  );
  const answer = await operateApp.request("/health", {}, untouchable);
  expect([answer.status, await answer.text()]).toEqual([200, "healthy\n"]);
});
