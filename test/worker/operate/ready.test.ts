import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Env } from "../../../worker/env.ts";
import { operateApp } from "../../../worker/operate/index.ts";
import { within } from "../../../worker/operate/live.ts";
import { readiness } from "../../../worker/operate/ready.ts";

/** The environment with some bindings replaced. */
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

test("a complete deployment is ready", async () => {
  expect(await readiness(env)).toEqual({ status: "ready", reasons: [] });
});

test("a part that fails is named by a word that reveals no host", async () => {
  const cases = [
    [{ KEY_SECRET: "short" }, "configuration"],
    [{ DB: broken }, "database"],
    [{ RESULTS: broken }, "results"],
    [{ POOL: broken }, "objects"],
  ] as const;
  for (const [parts, reason] of cases)
    expect(await readiness(instead(parts))).toEqual({ status: "not_ready", reasons: [reason] });
});

test("a part that does not answer counts as broken after its timeout", async () => {
  const silent = { head: () => new Promise<never>(() => {}) };
  const from = Date.now();
  // A timer in this request keeps the runtime from treating the wait as a hang.
  const outcome = await within(5_000, () => readiness(instead({ RESULTS: silent })));
  expect(outcome).toEqual({ ok: true, value: { status: "not_ready", reasons: ["results"] } });
  expect(Date.now() - from).toBeGreaterThanOrEqual(1_900);
  expect(Date.now() - from).toBeLessThan(4_000);
});

test("a deployment that is not ready answers 503", async () => {
  const answer = await operateApp.request("/ready", {}, instead({ DB: broken }));
  expect([answer.status, await answer.json()]).toEqual([503, { status: "not_ready", reasons: ["database"] }]);
});

test("/health touches no binding", async () => {
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
