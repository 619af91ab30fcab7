import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { recordResults, type ResultRow } from "../../../worker/db/queries.ts";
import { type Inventory, type InventoryPosition, takeInventory } from "../../../worker/results/inventory.ts";

const HOUR_MS = 3_600_000;
const NOTHING = { compared: 0, orphans: 0, missing: 0, restored: 0, removed_objects: 0, removed_rows: 0 };

const createdAt = Date.now();
const expiresAt = createdAt + 24 * HOUR_MS;
const times = { createdAt: String(createdAt), expiresAt: String(expiresAt) };
const RESULT = { tenant: "ten_a", service: "portrait", request: "req_1", model: "v1", sha256: "00", ...times };
const ANSWER = { maker: "ten_a", service: "portrait", storedAt: times.createdAt, keptUntil: times.expiresAt };

const row = (id: string): ResultRow => ({
  id,
  tenantId: "ten_a",
  serviceId: "portrait",
  requestId: "req_1",
  modelVersion: "v1",
  contentType: "image/png",
  bytes: 1,
  sha256: "00",
  visibility: id.startsWith("pub_") ? "public" : "signed",
  answerKey: "ten_a/answers/f",
  createdAt,
  expiresAt,
});
const answerRow = (key: string) => ({
  key,
  tenantId: "ten_a",
  serviceId: "portrait",
  modelVersion: null,
  bytes: 1,
  createdAt,
  expiresAt,
});
const put = (key: string, customMetadata: Record<string, string>) =>
  env.RESULTS.put(key, "x", { customMetadata, httpMetadata: { contentType: "image/png" } });
const rowsOf = async (table: "results" | "answers") =>
  (await env.DB.prepare(`SELECT * FROM ${table} ORDER BY 1`).all()).results;
const objects = async () => (await env.RESULTS.list()).objects.map(({ key }) => key);

/** Takes the whole inventory, in pages of `pageKeys` keys. */
async function walked(mend = false, pageKeys = 2): Promise<Inventory> {
  const whole: Inventory = { ...NOTHING };
  for (let from: InventoryPosition | null = [0, ""]; from !== null;) {
    const { found, next }: Awaited<ReturnType<typeof takeInventory>> = await takeInventory(env, from, mend, pageKeys);
    for (const [name, n] of Object.entries(found)) whole[name as keyof Inventory] += n;
    from = next;
  }
  return whole;
}

/** Sets the clock ahead, so that objects from this test are old enough to be judged. */
const inTwoHours = () => vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 2 * HOUR_MS });

beforeEach(async () => {
  await env.RESULTS.delete(await objects());
  await env.DB.batch([env.DB.prepare("DELETE FROM results"), env.DB.prepare("DELETE FROM answers")]);
});
afterEach(() => vi.useRealTimers());

test("nothing is found if R2 and the rows agree, and other objects are ignored", async () => {
  const ids = ["a", "b", "c", "pub_d", "prv_e"];
  const keys = ["shared/answers/f", "ten_a/answers/f", "ten_a/answers/g", "ten_b/answers/f"];
  await recordResults(env, ids.map(row), keys.map(answerRow));
  for (const id of ids) await put(`results/${id}`, RESULT);
  for (const key of keys) await put(key, ANSWER);
  for (const key of ["inputs/x", "ageing/inputs", "ten_a/other"]) await put(key, {});
  inTwoHours();
  for (const pageKeys of [1, 2, 3, 100])
    expect({ ...(await walked(true, pageKeys)), compared: 0 }, String(pageKeys)).toEqual(NOTHING);
  expect(await objects()).toHaveLength(12);
});

test("an orphan is counted once it is an hour old, and left alone unless repair is requested", async () => {
  await put("results/a", RESULT);
  await put("ten_a/answers/f", ANSWER);
  expect(await walked(true)).toMatchObject({ orphans: 0, restored: 0 });
  inTwoHours();
  expect(await walked()).toEqual({ ...NOTHING, compared: 2, orphans: 2 });
  expect(await rowsOf("results")).toEqual([]);
});

test("repair restores exactly the same rows", async () => {
  const [a, d] = [row("a"), row("pub_d")];
  await recordResults(env, [a, d], [answerRow("ten_a/answers/f"), answerRow("shared/answers/f")]);
  const before = [await rowsOf("results"), await rowsOf("answers")];
  await env.DB.batch([env.DB.prepare("DELETE FROM results"), env.DB.prepare("DELETE FROM answers")]);
  for (const { id } of [a, d]) await put(`results/${id}`, { ...RESULT, answer: "ten_a/answers/f" });
  for (const key of ["ten_a/answers/f", "shared/answers/f"]) await put(key, ANSWER);
  inTwoHours();
  expect(await walked(true)).toEqual({ ...NOTHING, compared: 4, orphans: 4, restored: 4 });
  expect([await rowsOf("results"), await rowsOf("answers")]).toEqual(before);
  expect(await walked()).toMatchObject({ orphans: 0, missing: 0 });
});

test("repair removes an orphan that has expired or lacks metadata", async () => {
  await put("results/over", { ...RESULT, expiresAt: String(Date.now() + HOUR_MS) });
  await put("results/bare", {});
  await put("ten_a/answers/bare", { maker: "ten_a" });
  inTwoHours();
  expect(await walked(true)).toEqual({ ...NOTHING, compared: 3, orphans: 3, removed_objects: 3 });
  expect(await objects()).toEqual([]);
});

test("rows without an object are counted, and repair removes them; repeating it changes nothing", async () => {
  await recordResults(env, ["a", "b", "c"].map(row), [answerRow("ten_a/answers/f"), answerRow("shared/answers/f")]);
  await put("results/b", RESULT);
  expect(await walked()).toEqual({ ...NOTHING, compared: 5, missing: 4 });
  expect(await walked(true)).toMatchObject({ missing: 4, removed_rows: 4 });
  expect((await rowsOf("results")).map(({ id }) => id)).toEqual(["b"]);
  expect(await walked(true)).toEqual({ ...NOTHING, compared: 1 });
});
