import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { picture } from "../contract/doorway.ts";
import { type Portico, startPortico } from "../support/portico.ts";
import { jsonOf, portico } from "./command.ts";
import { type Scripted, scripted } from "./scripted.ts";

const WRITTEN_MS_MAX = 5_000;

let front: Portico;
let key: string;
const ask = (...args: string[]) => portico(["results", ...args], { url: front.url, token: front.adminToken });

beforeAll(async () => {
  front = await startPortico();
  key = await front.key();
});
afterAll(() => front.stop());

/** Makes one picture and returns its result's id, once its row and its answer's row are written. */
async function made(seed: number): Promise<string> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const body = JSON.stringify(picture({ seed }));
  const answer = await fetch(`${front.url}/sdapi/v1/txt2img`, { method: "POST", headers, body });
  expect(answer.status, await answer.text()).toBe(200);
  const id = /results\/(\w+)/.exec(answer.headers.get("link") ?? "")?.[1] ?? "";
  const db = await front.mf().getD1Database("DB");
  // Rows are written in batches, shortly after the answers.
  await vi.waitFor(
    async () => {
      const row = await db.prepare("SELECT answer_key FROM results WHERE id = ?").bind(id).first<string>("answer_key");
      const answerRow = await db.prepare("SELECT key FROM answers WHERE key = ?").bind(row).first();
      expect(answerRow).not.toBeNull();
    },
    { timeout: WRITTEN_MS_MAX },
  );
  return id;
}

const statusOf = async (id: string): Promise<number> =>
  (await fetch(`${front.url}/v1/results/${id}`, { method: "HEAD", headers: { authorization: `Bearer ${key}` } }))
    .status;

test("purge reports what it would remove, asks for confirmation, and removes it", async () => {
  const [id] = [await made(1), await made(2)];
  const which = ["purge", "all", "--service", "portrait"];
  expect(await jsonOf(ask(...which, "--dry-run", "--json"))).toMatchObject({ results: 2, answers: 2, done: false });

  const unasked = await ask(...which);
  expect([unasked.code, unasked.out]).toEqual([2, ""]);
  expect(unasked.err).toMatch(
    /2 results and 2 answers \(\d+ bytes\) will be removed\. There is no terminal to confirm on/,
  );
  expect(await statusOf(id)).toBe(200);

  expect(await jsonOf(ask(...which, "--yes", "--json"))).toMatchObject({ results: 2, answers: 2, done: true });
  expect(await statusOf(id)).toBe(404);
  expect(await jsonOf(ask(...which, "--yes", "--json"))).toMatchObject({ results: 0, answers: 0, done: true });
});

test("purge accepts a tenant's name, and refuses an unknown tenant or an unknown kind", async () => {
  await made(3);
  const [{ name } = { name: "" }] = (await front.admin<{ data: { name: string }[] }>("GET", "/tenants")).data;
  const dry = ["--dry-run", "--json"];
  expect(await jsonOf(ask("purge", "results", "--tenant", name, ...dry))).toMatchObject({ results: 1 });
  const unknown = await ask("purge", "results", "--tenant", "nobody", "--yes");
  expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining("nobody")]);
  const strange = await ask("purge", "everything", "--service", "portrait", "--yes");
  expect([strange.code, strange.err]).toEqual([2, expect.stringContaining("everything is none of results")]);
});

test("verify finds a row without an object, and --mend removes it", async () => {
  const lost = await made(4);
  expect(await jsonOf(ask("verify", "--json"))).toMatchObject({ orphans: 0, missing: 0 });
  await (await front.mf().getR2Bucket("RESULTS")).delete(`results/${lost}`);
  const found = await ask("verify", "--json");
  expect(JSON.parse(found.out)).toMatchObject({ orphans: 0, missing: 1, restored: 0, removed_rows: 0 });
  expect(found.err).toContain("--mend");
  expect(await jsonOf(ask("verify", "--mend", "--json"))).toMatchObject({ missing: 1, removed_rows: 1 });
  expect(await jsonOf(ask("verify", "--json"))).toMatchObject({ orphans: 0, missing: 0 });
});

test("purge and verify report progress when they take several calls", async () => {
  const rest = { orphans: 0, missing: 0, restored: 0, removed_objects: 0, removed_rows: 0 };
  const api: Scripted = await scripted(({ call }, before) => {
    if (call.endsWith("/verify"))
      return { body: { compared: 5000, ...rest, next_cursor: before === 0 ? "two" : null } };
    return { body: { results: 20_000, answers: 10, bytes: 1, done: before > 1 } };
  });
  try {
    const setting = { url: api.url, token: "t" };
    const purged = await portico(["results", "purge", "all", "--service", "s", "--yes", "--json"], setting);
    expect(JSON.parse(purged.out)).toMatchObject({ results: 40_000, answers: 20, done: true });
    expect(purged.err).toContain("20000 results and 10 answers removed so far; more are left.");
    const verified = await portico(["results", "verify", "--json"], setting);
    expect(JSON.parse(verified.out)).toMatchObject({ compared: 10_000 });
    expect(verified.err).toContain("5000 compared so far; more are left.");
  } finally {
    await api.stop();
  }
});
