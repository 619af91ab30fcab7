/** Refusals of the Replicate dialect as the official client throws them, and its retries, counted at the origin. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import { answerImage, listOrigin, Origin } from "../contract/origin.ts";
import { over } from "../jobs/shown.ts";
import { refused, replicate } from "./replicate-client.ts";

const door = doorway({ cards: [] });
let origin: Origin;
/** Requests that the client has sent. */
let sent = 0;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "one", { kind: "image", route: "/one/", retry: { tries: 1 } });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
  sent = 0;
});
afterAll(() => origin.close());

const ASKED = { model: "portico/one", input: { prompt: "x" } };
const counting: typeof fetch = (url, init) => {
  sent++;
  return fetch(url, init);
};
const runs = () => origin.seen.filter(({ target }) => target === "/one/txt2img").length;
const client = (auth: string) => replicate(door, { auth, fetch: counting });

test("anything unknown gets 404 in Replicate's words", async () => {
  const { predictions, models } = replicate(door);
  const calls = [
    predictions.create({ ...ASKED, model: "portico/nobody" }),
    predictions.create({ ...ASKED, model: "stability-ai/sdxl" }),
    predictions.create({ version: "0".repeat(64), input: {} }),
    predictions.create({ version: "portico/one:0", input: {} }),
    predictions.get("job_none"),
    predictions.get("none"),
    models.get("portico", "nobody"),
    models.versions.get("portico", "one", "0"),
    replicate(door).collections.list(),
  ];
  for (const { error, problem } of await Promise.all(calls.map(refused))) {
    expect(error.response.status).toBe(404);
    expect(error.response.headers.get("content-type")).toBe("application/json");
    expect(problem).toEqual({ title: "Not found", detail: expect.stringMatching(/./), status: 404 });
  }
});

test("a missing or wrong key gets 401, and a key without scope or service gets 403", async () => {
  const target = "/replicate/v1/models/portico/one/predictions";
  const none = await door.ask(target, { key: null, json: { input: {} } });
  expect(none.status).toBe(401);
  expect(JSON.parse(none.text)).toMatchObject({ title: "Unauthenticated", status: 401 });
  const wrong = await refused(replicate(door, { auth: "r8_nothing" }).predictions.create(ASKED));
  expect(wrong.error.response.status).toBe(401);
  for (const options of [{ scopes: ["infer"] }, { services: ["portrait"] }]) {
    const narrow = replicate(door, { auth: await door.key(options) });
    expect((await refused(narrow.predictions.create(ASKED))).problem).toMatchObject({ status: 403 });
  }
  expect(runs()).toBe(0);
});

test("error messages follow Accept-Language", async () => {
  const json = { model: "portico/one", input: { auth: door.ownKey } };
  const answer = await door.ask("/replicate/v1/predictions", { json, headers: { "accept-language": "zh-CN" } });
  expect(JSON.parse(answer.text)).toMatchObject({ detail: "参数 input.auth 无效：包含 API 密钥；输入中不得包含密钥" });
});

test("a refused field is named as the caller wrote it, and the client does not retry", async () => {
  const { predictions } = client(door.ownKey);
  const wide = await refused(predictions.create({ ...ASKED, input: { prompt: "x", size: "9999x64" } }));
  expect(wide.problem).toMatchObject({ title: "Input validation failed", status: 400 });
  expect(wide.problem.invalid_fields).toMatchObject([{ field: "input.size" }]);
  const forbidden = await refused(predictions.create({ ...ASKED, input: { script_name: "x" } }));
  expect(forbidden.problem.invalid_fields).toMatchObject([{ field: "input.script_name" }]);
  const listed = await refused(predictions.create({ ...ASKED, input: [] as unknown as object }));
  expect(listed.problem.invalid_fields).toMatchObject([{ field: "input" }]);
  expect(sent).toBe(3);
  expect(runs()).toBe(0);
});

test("malformed JSON, a wrong method and a wrong content type are refused in the same format", async () => {
  const target = "/replicate/v1/predictions";
  const answers = [
    await door.ask(target, { body: "{", headers: { "content-type": "application/json" } }),
    await door.ask(target, { body: "a=b", headers: { "content-type": "application/x-www-form-urlencoded" } }),
    await door.ask(target, { method: "DELETE" }),
    await door.ask(target, { json: { input: {} } }),
  ];
  expect(answers.map(({ status }) => status)).toEqual([400, 415, 405, 400]);
  for (const { text, status } of answers)
    expect(JSON.parse(text)).toMatchObject({ status, detail: expect.any(String) });
  expect(answers[2]?.header("allow")).toBe("GET, HEAD, POST");
});

test("a request beyond the rate is held until it may run, and the client does not retry", async () => {
  const auth = await door.key({ limits: { requests_per_minute: 60, burst: 1 } });
  const run = () => client(auth).run("portico/one", { input: { prompt: "x" } });
  const from = performance.now();
  const outputs = await Promise.all([run(), run(), run()]);
  expect(performance.now() - from).toBeGreaterThan(1_500);
  for (const output of outputs) expect(output).toHaveLength(1);
  expect(sent).toBe(3);
  expect(runs()).toBe(3);
});

test("a request beyond jobs_waiting is held until it may run, and the client does not retry", async () => {
  const auth = await door.key({ limits: { jobs_waiting: 1, concurrent: 1 } });
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  origin.answering = (res, seen) => void released.then(() => answerImage(res, seen));
  const { predictions } = client(auth);
  const first = await predictions.create(ASKED);
  while (runs() === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const second = await predictions.create(ASKED);
  const third = predictions.create(ASKED);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  release();
  const ids = [first, second, await third].map(({ id }) => id);
  expect(new Set(ids).size).toBe(3);
  for (const id of ids) expect(await over(door, id, auth)).toMatchObject({ status: "succeeded" });
  expect(sent).toBe(3);
  expect(runs()).toBe(3);
});

test("an exhausted quota is refused at once", async () => {
  const auth = await door.key({ limits: { results_per_month: 0 } });
  const from = performance.now();
  const { error, problem } = await refused(client(auth).predictions.create(ASKED));
  expect(performance.now() - from).toBeLessThan(3_000);
  expect(error.response.headers.get("retry-after")).toMatch(/^\d+$/);
  expect(problem).toMatchObject({ title: "Request was throttled", status: 429 });
  expect(runs()).toBe(0);
});

test("a cut connection costs a prediction a second run, and the client sees no error", async () => {
  let cuts = 1;
  origin.answering = (res, seen) => (cuts-- > 0 ? void res.destroy() : answerImage(res, seen));
  await listOrigin(door, origin, "two", { kind: "image", route: "/one/two/", retry: { tries: 3, timeout_s: 20 } });
  const output = await client(door.ownKey).run("portico/two", { input: { prompt: "x" } });
  expect(output).toHaveLength(1);
  expect(origin.seen.filter(({ target }) => target === "/one/two/txt2img")).toHaveLength(2);
});
