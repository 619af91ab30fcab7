/** `/replicate/v1` works with the official Replicate client: predictions and models. */
import { setTimeout as delay } from "node:timers/promises";
import { type Prediction, parseProgressFromLogs } from "replicate";
import { beforeAll, expect, test } from "vitest";
import { doorway, expectOk, targetOf } from "../contract/doorway.ts";
import { begun, over, show, submitted } from "../jobs/shown.ts";
import { refused, replicate, SLOW, SMALL } from "./replicate-client.ts";

/** `idle` has no card: its jobs wait. */
const door = doorway({ speed: 1 });
beforeAll(() => door.portico.admin("PUT", "/services/idle", { kind: "image", route: "/idle/" }));

const urlsOf = (output: unknown): string[] => (output as unknown[]).map(String);
/** A prediction without the fields that are signed again in each answer. */
const plain = ({ output: _output, urls: _urls, ...rest }: Prediction) => rest;

test("run returns the pictures as a list of URLs that need no key", async () => {
  const seen: Prediction[] = [];
  const output = await replicate(door).run("portico/portrait", { input: { ...SMALL, n: 2 } }, (one) => seen.push(one));
  const urls = urlsOf(output);
  expect(urls).toHaveLength(2);
  for (const url of urls) {
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v1\/results\//);
    const png = expectOk(await door.ask(targetOf(url), { key: null }));
    expect(png.header("content-type")).toBe("image/png");
    expect([png.body.readUInt32BE(16), png.body.readUInt32BE(20)]).toEqual([64, 64]);
  }
  expect(new Set(seen.map(({ id }) => id)).size).toBe(1);
});

test("run of a sound returns one URL", async () => {
  const output = await replicate(door).run("portico/cosyvoice2", { input: { text: "The tide is in." } });
  const sound = expectOk(await door.ask(targetOf(urlsOf([output]).join()), { key: null }));
  expect(sound.body.toString("latin1", 0, 4)).toBe("RIFF");
});

test("a prediction created without Prefer is starting, and wait and get return its result", async () => {
  const client = replicate(door);
  const input = { ...SMALL, seed: 11 };
  const made = await client.predictions.create({ model: "portico/portrait", input });
  expect(made).toMatchObject({
    model: "portico/portrait",
    status: "starting",
    input,
    output: null,
    error: null,
    logs: "",
    source: "api",
    data_removed: false,
    metrics: {},
    started_at: null,
    completed_at: null,
  });
  expect(made.id).toMatch(/^job_/);
  expect(made.urls.get).toBe(`${door.portico.url}/replicate/v1/predictions/${made.id}`);
  expect(made.urls.cancel).toBe(`${made.urls.get}/cancel`);
  const done = await client.wait(made, { interval: 50 });
  expect(done).toMatchObject({ id: made.id, status: "succeeded", input, version: made.version });
  expect(done.output).toHaveLength(1);
  const { predict_time = -1, total_time = -1 } = done.metrics ?? {};
  expect(predict_time).toBeGreaterThan(0);
  expect(total_time).toBeGreaterThanOrEqual(predict_time);
  expect(new Date(done.completed_at ?? 0).getTime()).toBeGreaterThanOrEqual(new Date(done.started_at ?? 0).getTime());
  const { results } = await client.predictions.list();
  expect(results.map(({ id }) => id)).toContain(made.id);
  const listed = results.find(({ id }) => id === made.id);
  expect(listed && plain(listed)).toEqual(plain(await client.predictions.get(made.id)));
});

test("Prefer: wait answers with the end of the prediction, or with status starting when the wait is over", async () => {
  const client = replicate(door);
  const fast = await client.predictions.create({ model: "portico/portrait", input: SMALL, wait: true });
  expect(fast.status).toBe("succeeded");
  const slow = await client.predictions.create({ model: "portico/portrait", input: { ...SLOW, steps: 150 }, wait: 1 });
  expect(slow).toMatchObject({ status: "starting", output: null, started_at: null });
  await begun(door, slow.id);
  expect(await client.predictions.get(slow.id)).toMatchObject({ status: "processing", completed_at: null });
  const answer = await door.ask("/replicate/v1/models/portico/portrait/predictions", {
    json: { input: SMALL },
    headers: { prefer: "wait=3600" },
  });
  expect(answer.status).toBe(201);
  expect(answer.header("preference-applied")).toBe("wait=60");
  expect(JSON.parse(answer.text)).toMatchObject({ status: "succeeded" });
  await client.predictions.cancel(slow.id);
});

test("the logs contain progress that the client can parse", async () => {
  const client = replicate(door);
  const made = await client.predictions.create({ model: "portico/portrait", input: { ...SLOW, seed: 5, steps: 100 } });
  let seen: ReturnType<typeof parseProgressFromLogs> = null;
  const done = await client.wait(made, { interval: 100 }, async (now) => {
    if (now.status === "processing") seen ??= parseProgressFromLogs(now);
    return false;
  });
  expect(seen).toMatchObject({ total: 100 });
  const lines = (done.logs ?? "").split("\n");
  expect(lines.length).toBeGreaterThan(1);
  for (const line of lines) expect(line).toMatch(/^ {0,2}\d{1,3}%\|[█ ]{10}\| \d{1,3}\/100$/);
});

test("cancel ends a prediction and leaves a finished one unchanged", async () => {
  const client = replicate(door);
  const made = await client.predictions.create({ model: "portico/portrait", input: { ...SLOW, steps: 150 } });
  expect(await client.predictions.cancel(made.id)).toMatchObject({ id: made.id, status: "canceled", output: null });
  expect(await client.predictions.cancel(made.id)).toMatchObject({ status: "canceled" });
  expect(await show(door, made.id)).toMatchObject({ status: "canceled" });
  const gone = new AbortController();
  let id = "";
  const given = await client.run(
    "portico/portrait",
    { input: { ...SLOW, steps: 150 }, signal: gone.signal, wait: { mode: "poll", interval: 50 } },
    (prediction) => {
      id = prediction.id;
      gone.abort();
    },
  );
  expect(given).toBeNull();
  expect(await show(door, id)).toMatchObject({ status: "canceled" });
});

test("run throws the origin's error message", async () => {
  const client = replicate(door);
  const failing = client.run("portico/portrait", { input: { ...SMALL, sampler_name: "none such" } });
  await expect(failing).rejects.toThrow("Prediction failed: Sampler not found");
});

test("stream sends progress, the output and the end, with a URL that needs no key", async () => {
  const events: { event: string; data: string }[] = [];
  for await (const { event, data } of replicate(door).stream("portico/portrait", { input: { ...SLOW, seed: 6 } }))
    events.push({ event, data });
  const kinds = events.map(({ event }) => event);
  expect(new Set(kinds)).toEqual(new Set(["logs", "output", "done"]));
  expect(kinds.slice(-2)).toEqual(["output", "done"]);
  expect(parseProgressFromLogs(events[0]?.data ?? "")).toMatchObject({ total: 100 });
  expectOk(await door.ask(targetOf(events.at(-2)?.data ?? ""), { key: null }));
});

test("the stream of a failed prediction ends with an error, and its signature is valid for nothing else", async () => {
  const client = replicate(door);
  const input = { ...SMALL, sampler_name: "none such" };
  const failing = (async () => {
    for await (const event of client.stream("portico/portrait", { input })) expect(event.event).toBe("logs");
  })();
  await expect(failing).rejects.toThrow("Sampler not found");
  const { urls, id } = await client.predictions.create({ model: "portico/portrait", input, wait: true });
  const target = targetOf(urls.stream ?? "");
  const told = expectOk(await door.ask(target, { key: null }));
  expect(told.text).toContain('event: error\ndata: {"detail":"Sampler not found"}\n\n');
  expect(told.text).toMatch(/id: \d+\nevent: done\ndata: \{"reason":"error"\}\n\n$/);
  const [path = "", query = ""] = target.split("?");
  expect((await door.ask(path, { key: null })).status).toBe(401);
  expect((await door.ask(target.replace(/sig=./, "sig=_"), { key: null })).status).toBe(403);
  expect((await door.ask(`${path.replace(id, "job_other")}?${query}`, { key: null })).status).toBe(403);
  expect((await door.ask(`/v1/results/${id}?${query}`, { key: null })).status).toBe(403);
  expect((await door.ask(target, { key: await door.key() })).status).toBe(404);
});

test("a job is visible as a prediction and as a job, under one id", async () => {
  const client = replicate(door);
  const own = await submitted(door, { service: "portrait", input: SMALL });
  await over(door, own);
  expect(await client.predictions.get(own)).toMatchObject({ id: own, status: "succeeded", model: "portico/portrait" });
  const { id } = await client.predictions.create({ model: "portico/portrait", input: SMALL });
  expect(await over(door, id)).toMatchObject({ id, service: "portrait", status: "succeeded" });
});

test("predictions can be created by version, by model in the body and by deployment", async () => {
  const client = replicate(door);
  const { latest_version: version } = await client.models.get("portico", "portrait");
  const made = [
    await client.run(`portico/portrait:${version?.id}`, { input: SMALL }),
    (await client.deployments.predictions.create("portico", "portrait", { input: SMALL, wait: true })).output,
    (await client.predictions.create({ version: "portico/portrait", input: SMALL, wait: true })).output,
  ];
  for (const output of made) expect(urlsOf(output)).toHaveLength(1);
  const json = { model: "portico/portrait", input: SMALL };
  const answer = await door.ask("/replicate/v1/predictions", { json, headers: { prefer: "wait" } });
  expect(JSON.parse(answer.text)).toMatchObject({ status: "succeeded", version: version?.id });
});

test("models are the services that the key may use, each with one version", async () => {
  const client = replicate(door);
  const { results } = await client.models.list();
  expect(results.map(({ owner, name }) => `${owner}/${name}`).toSorted()).toEqual([
    "portico/cosyvoice2",
    "portico/idle",
    "portico/portrait",
  ]);
  for (const model of results) {
    expect(await client.models.get("portico", model.name)).toEqual(model);
    const [version] = (await client.models.versions.list("portico", model.name)).results as { id: string }[];
    expect(version).toEqual(model.latest_version);
    expect(await client.models.versions.get("portico", model.name, version?.id ?? "")).toEqual(version);
  }
  const narrow = replicate(door, { auth: await door.key({ services: ["portrait"] }) });
  expect((await narrow.models.list()).results.map(({ name }) => name)).toEqual(["portrait"]);
  expect(await client.accounts.current()).toMatchObject({ type: "organization", username: expect.stringMatching(/./) });
});

test("the list of predictions has pages and is newest first", async () => {
  const auth = await door.key();
  const client = replicate(door, { auth });
  const ids: string[] = [];
  const jobs = Array.from({ length: 53 }, () => ({ service: "idle", input: SMALL }));
  const batch = await door.ask("/v1/batches", { key: auth, json: { jobs } });
  expect(batch.status).toBe(202);
  for await (const page of client.paginate(() => client.predictions.list())) ids.push(...page.map(({ id }) => id));
  expect(ids).toHaveLength(53);
  expect(ids.toReversed()).toEqual((JSON.parse(batch.text) as { jobs: string[] }).jobs);
  expect((await refused(client.request("/predictions?cursor=none", {}))).error.response.status).toBe(400);
});

test("two requests with the same Idempotency-Key create one prediction", async () => {
  const target = "/replicate/v1/models/portico/portrait/predictions";
  const sent = { json: { input: SMALL }, headers: { "idempotency-key": "one and the same" } };
  const first = await door.ask(target, sent);
  const second = await door.ask(target, sent);
  expect(second.header("idempotent-replayed")).toBe("true");
  expect(JSON.parse(second.text).id).toBe(JSON.parse(first.text).id);
});

test("another tenant's prediction is not found", async () => {
  const { id } = await replicate(door).predictions.create({ model: "portico/portrait", input: SMALL });
  const other = replicate(door, { auth: await door.key() });
  const calls = [other.predictions.get(id), other.predictions.cancel(id)];
  for (const { error } of await Promise.all(calls.map(refused))) expect(error.response.status).toBe(404);
  expect((await other.predictions.list()).results).toEqual([]);
});

test("closing the connection does not cancel the prediction", async () => {
  const gone = new AbortController();
  const key = await door.key();
  const client = replicate(door, { auth: key });
  const waiting = client.predictions.create({
    model: "portico/portrait",
    input: { ...SLOW, seed: 9 },
    wait: true,
    signal: gone.signal,
  });
  let id: string | undefined;
  for (; id === undefined; await delay(50)) id = (await client.predictions.list()).results[0]?.id;
  gone.abort();
  await expect(waiting).rejects.toThrow(/abort/i);
  expect(await over(door, id, key)).toMatchObject({ status: "succeeded" });
});
