import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { operatorOf } from "../../../worker/admin/operator.ts";
import { config, type Env } from "../../../worker/env.ts";
import { makeKey } from "../../../worker/caller/keys.ts";

const asking = (token: string) => new Request("https://x/", { headers: { authorization: `Bearer ${token}` } });

/** The environment, with a counter of D1 look-ups. */
function counted(): { counting: Env; lookUps: () => number } {
  let n = 0;
  const DB = new Proxy(env.DB, {
    get: (db, name) => {
      n += 1;
      const value: unknown = Reflect.get(db, name);
      return typeof value === "function" ? value.bind(db) : value;
    },
  });
  return { counting: { ...env, DB }, lookUps: () => n };
}

test("a token with a wrong checksum costs no look-up, and a valid one costs a single look-up for a while", async () => {
  const { counting, lookUps } = counted();
  const { key } = await makeKey(config(env).keySecret, "pto");
  expect(await operatorOf(counting, asking(`${key.slice(0, -1)}${key.endsWith("0") ? "1" : "0"}`))).toMatchObject({
    reason: "malformed",
  });
  expect(await operatorOf(counting, asking("ptc_0000000000000000000000000000000000000000"))).toMatchObject({
    reason: "unknown",
  });
  expect(lookUps()).toBe(0);
  expect(await operatorOf(counting, asking(key))).toMatchObject({ reason: "unknown" });
  expect(lookUps()).toBe(1);
  expect(await operatorOf(counting, asking(key))).toMatchObject({ reason: "unknown" });
  expect(lookUps()).toBe(1);
});
