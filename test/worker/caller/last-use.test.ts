import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Env } from "../../../worker/env.ts";
import { noteUse } from "../../../worker/caller/last-use.ts";

const HOUR_MS = 3_600_000;

async function newKey(id: string): Promise<void> {
  await env.DB.prepare(
    "INSERT INTO keys (id, tenant_id, hash, tail, state, created_at, created_by) VALUES (?, 't', 'h', 't', 'active', 1, 'admin')",
  )
    .bind(id)
    .run();
}

/** Records a use and waits for its writes. Returns their number. */
async function use(id: string, now: number, on: Env = env): Promise<number> {
  const work: Promise<unknown>[] = [];
  noteUse(on, { of: "key", id }, now, (some) => work.push(some));
  await Promise.all(work);
  return work.length;
}

const lastUse = async (id: string) =>
  (await env.DB.prepare("SELECT last_used_at FROM keys WHERE id = ?").bind(id).first("last_used_at")) ?? null;

test("a key's use is written at most once an hour", async () => {
  await newKey("k1");
  expect([await use("k1", HOUR_MS), await lastUse("k1")]).toEqual([1, HOUR_MS]);
  expect([await use("k1", 2 * HOUR_MS - 1), await lastUse("k1")]).toEqual([0, HOUR_MS]);
  expect([await use("k1", 2 * HOUR_MS), await lastUse("k1")]).toEqual([1, 2 * HOUR_MS]);
});

test("a later use recorded by another isolate is not overwritten", async () => {
  await newKey("k2");
  await env.DB.prepare("UPDATE keys SET last_used_at = ? WHERE id = 'k2'")
    .bind(9 * HOUR_MS)
    .run();
  expect([await use("k2", HOUR_MS), await lastUse("k2")]).toEqual([1, 9 * HOUR_MS]);
});

function down(): never {
  throw new Error("down");
}

test("a failed write does not fail the request", async () => {
  const broken = { ...env, DB: new Proxy(env.DB, { get: down }) };
  expect(await use("k3", HOUR_MS, broken)).toBe(1);
});
