import { env } from "cloudflare:workers";
import { createScheduledController } from "cloudflare:test";
import { beforeEach, expect, test } from "vitest";
import { type AnswerRow, recordResults, type ResultRow } from "../../../worker/db/queries.ts";
import worker from "../../../worker/index.ts";
import { removeMatching } from "../../../worker/results/removal.ts";

const NOW = Date.now();
const HOUR_MS = 3_600_000;

const result = (id: string, more: Partial<ResultRow> = {}): ResultRow => ({
  id,
  tenantId: "ten_a",
  serviceId: "portrait",
  requestId: `of-${id}`,
  modelVersion: null,
  contentType: "image/png",
  bytes: 10,
  sha256: "",
  visibility: "signed",
  answerKey: null,
  createdAt: NOW - HOUR_MS,
  expiresAt: NOW + HOUR_MS,
  ...more,
});
const answer = (key: string, more: Partial<AnswerRow> = {}): AnswerRow => ({
  key,
  tenantId: "ten_a",
  serviceId: "portrait",
  modelVersion: null,
  bytes: 100,
  createdAt: NOW - HOUR_MS,
  expiresAt: NOW + HOUR_MS,
  ...more,
});

/** Stores rows and objects. */
async function store(results: ResultRow[], answers: AnswerRow[] = []): Promise<void> {
  await recordResults(env, results, answers);
  for (const key of [...results.map(({ id }) => `results/${id}`), ...answers.map((row) => row.key)])
    await env.RESULTS.put(key, "x");
}

const objects = async () => (await env.RESULTS.list()).objects.map(({ key }) => key);
async function rows(): Promise<unknown[]> {
  const sql = "SELECT 'results/' || id AS key FROM results UNION ALL SELECT key FROM answers ORDER BY key";
  return (await env.DB.prepare(sql).all()).results.map(({ key }) => key);
}
const sweep = () => worker.scheduled(createScheduledController({ scheduledTime: new Date(NOW) }), env);

beforeEach(async () => {
  await env.RESULTS.delete(await objects());
  await env.DB.batch([env.DB.prepare("DELETE FROM results"), env.DB.prepare("DELETE FROM answers")]);
});

test("the hourly sweep removes only expired results and answers, with their rows, idempotently", async () => {
  await store(
    [result("over", { expiresAt: NOW }), result("lives", { expiresAt: NOW + 1 })],
    [answer("ten_a/answers/over", { expiresAt: NOW - 1 }), answer("ten_a/answers/lives")],
  );
  for (let i = 0; i < 2; i++) {
    await sweep();
    expect(await objects()).toEqual(["results/lives", "ten_a/answers/lives"]);
    expect(await rows()).toEqual(["results/lives", "ten_a/answers/lives"]);
  }
});

test("a removal that stopped after the objects is continued: rows without objects are removed", async () => {
  await store([result("half", { expiresAt: NOW - 1 })]);
  await env.RESULTS.delete("results/half");
  await sweep();
  expect(await rows()).toEqual([]);
});

test("a removal whose rows could not be deleted finds them again", async () => {
  await store([result("again", { expiresAt: NOW - 1 })]);
  const broken = new Proxy(env.DB, {
    get: (real, name) => {
      const member: unknown = Reflect.get(real, name);
      if (name === "batch") return () => Promise.reject(new Error("D1 is away"));
      return typeof member === "function" ? (member.bind(real) as unknown) : member;
    },
  });
  const filter = { over: NOW };
  await expect(removeMatching({ ...env, DB: broken }, filter, "all", 1)).rejects.toThrow();
  expect(await rows()).toEqual(["results/again"]);
  expect(await removeMatching(env, filter, "all", 1)).toMatchObject({ results: 1, done: true });
  expect([await objects(), await rows()]).toEqual([[], []]);
});

const round = () => removeMatching(env, { tenant: "ten_m" }, "all", 1);

test("a removal is done in rounds of a thousand, reports whether more is left, and continues", async () => {
  const many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)";
  const values = "'r' || i, 'ten_m', 's', 'r', NULL, 'image/png', 5, 'x', 'signed', NULL, 1, 2";
  await env.DB.prepare(`${many} INSERT INTO results SELECT ${values} FROM n`).run();
  expect(await round()).toEqual({ results: 1000, answers: 0, bytes: 5000, done: false });
  expect(await round()).toEqual({ results: 500, answers: 0, bytes: 2500, done: true });
  expect(await round()).toEqual({ results: 0, answers: 0, bytes: 0, done: true });
});

test("removing results removes their own tenant's answers and shared ones it made, and no others", async () => {
  await store(
    [result("a", { answerKey: "ten_a/answers/f" }), result("b", { tenantId: "ten_b", answerKey: "ten_b/answers/f" })],
    [
      answer("ten_a/answers/f"),
      answer("shared/answers/f"),
      answer("ten_a/answers/g"),
      answer("ten_b/answers/f", { tenantId: "ten_b" }),
    ],
  );
  expect(await removeMatching(env, { tenant: "ten_b" }, "results", 9)).toMatchObject({ results: 1, answers: 1 });
  expect(await objects()).toEqual(["results/a", "shared/answers/f", "ten_a/answers/f", "ten_a/answers/g"]);
  expect(await removeMatching(env, { tenant: "ten_a" }, "results", 9)).toMatchObject({ results: 1, answers: 2 });
  expect(await objects()).toEqual(["ten_a/answers/g"]);
  expect(await rows()).toEqual(["ten_a/answers/g"]);
});

test("an answer that is stored anew while its old one is removed keeps its row", async () => {
  const key = "ten_a/answers/f";
  await store([], [answer(key)]);
  const renewing = new Proxy(env.RESULTS, {
    get: (real, name) => {
      const member: unknown = Reflect.get(real, name);
      if (name !== "delete") return typeof member === "function" ? (member.bind(real) as unknown) : member;
      return async (keys: string[]) => {
        await real.delete(keys);
        await store([], [answer(key, { createdAt: Date.now() + 1 })]);
      };
    },
  });
  await removeMatching({ ...env, RESULTS: renewing }, { tenant: "ten_a" }, "answers", 1);
  expect([await objects(), await rows()]).toEqual([[key], [key]]);
});

test("a filter that matches everything is refused", async () => {
  await expect(removeMatching(env, {}, "all", 1)).rejects.toThrow(RangeError);
});
