/** The fal dialect in front of an origin played by the test: files, errors, retries and held status requests. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway, expectOk, targetOf } from "../contract/doorway.ts";
import { type Answering, answerImage, listOrigin, Origin, PNG } from "../contract/origin.ts";
import { begun, show } from "../jobs/shown.ts";
import { wavHeader } from "../pure/media-files.ts";
import { fal, type Output, raised, WAYS } from "./fal-client.ts";

const door = doorway({ cards: [] });
const APP = "portico/mine";
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  const retry = { retry: { tries: 1, timeout_s: 30 }, breaker: { max_fails: 1_000, fail_timeout_s: 1 } };
  await listOrigin(door, origin, "mine", { kind: "image", route: "/mine/sdapi/v1/", drain: { max_s: 1 }, ...retry });
  await listOrigin(door, origin, "sounds", { kind: "tts", route: "/sounds/" });
  await listOrigin(door, origin, "words", { kind: "http", route: "/words/" });
  await listOrigin(door, origin, "pictures", {
    kind: "http",
    route: "/pictures/",
    dialects: { run: { path: "paint", body: "json", fields: [], fixed: {}, results: "/made", formats: ["png"] } },
  });
  await listOrigin(door, origin, "forms", {
    kind: "http",
    route: "/forms/",
    dialects: { run: { path: "edit", body: "multipart", fields: [], fixed: {}, results: null, formats: ["png"] } },
  });
});
afterAll(() => origin.close());
beforeEach(() => {
  origin.answering = answerImage;
  origin.seen.length = 0;
});

const sent = (): Record<string, unknown> => JSON.parse(origin.taken().body.toString()) as Record<string, unknown>;
const picture = () => new Blob([Buffer.from(PNG, "base64")], { type: "image/png" });
const json =
  (status: number, body: unknown): Answering =>
  (res) =>
    void res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

test.each(WAYS)("the origin gets a Blob in the input as data (client set up by %s)", async (way) => {
  await fal(door, way).run(APP, { input: { prompt: "x", image_url: picture(), strength: 0.5 } });
  expect(origin.seen[0]?.target).toBe("/mine/sdapi/v1/img2img");
  expect(sent()).toMatchObject({ init_images: [PNG], denoising_strength: 0.5 });
  await fal(door, way).subscribe(APP, { input: { prompt: "x", nested: { deep: [picture()] } } });
  expect(sent()).toMatchObject({ nested: { deep: [`data:image/png;base64,${PNG}`] } });
});

test("an origin that takes forms gets a file as a file", async () => {
  origin.answering = json(200, { done: true });
  const { data } = await fal(door).run("portico/forms", { input: { prompt: "x", picture: picture() } });
  expect(data).toEqual({ done: true });
  expect(origin.taken().body.includes(Buffer.from(PNG, "base64"))).toBe(true);
});

test("an uploaded file has a signed URL and can be used as input only by its tenant", async () => {
  const client = fal(door);
  const url = await client.storage.upload(picture());
  expect(url).toMatch(new RegExp(`^${door.portico.url}/fal/files/`));
  const read = expectOk(await door.ask(targetOf(url), { key: null }));
  expect(read.body.toString("base64")).toBe(PNG);
  expect(read.header("content-security-policy")).toContain("sandbox");
  expect((await door.ask(new URL(url).pathname, { key: null })).status).toBe(403);
  expect((await door.ask(targetOf(url).replace(/exp=\d/, "exp=9"), { key: null })).status).toBe(403);
  const stranger = fal(door, "proxyUrl", await door.key());
  const error = await raised(stranger.run(APP, { input: { prompt: "x", image_url: url } }));
  expect([error.name, error.message]).toEqual([
    "ValidationError",
    expect.stringContaining("does not exist or has expired"),
  ]);
  expect(origin.seen).toHaveLength(0);
  const { images } = (await client.run(APP, { input: { prompt: "x" } })).data as Output;
  origin.seen.length = 0;
  await client.run(APP, { input: { prompt: "y", image_url: images[0]?.url } });
  expect(sent()).toMatchObject({ init_images: [PNG] });
});

test("an upload needs a valid signature and is limited to 12 MiB", async () => {
  const answer = await door.ask("/fal/rest/storage/upload/initiate", { json: { content_type: "image/png" } });
  const { upload_url } = JSON.parse(expectOk(answer).text) as { upload_url: string };
  const put = (target: string, body: Buffer) => door.ask(target, { method: "PUT", key: null, body });
  const target = targetOf(upload_url);
  const other = target.replace(/tenant=[^&]+/, "tenant=somebody");
  expect((await put(other, Buffer.from("x"))).status).toBe(403);
  expect((await put(target.replace(/exp=\d+/, "exp=1"), Buffer.from("x"))).status).toBe(403);
  expect((await put(target, randomBytes(12 * 1024 * 1024 + 1))).status).toBe(413);
  expect((await put(target, Buffer.from("x"))).status).toBe(200);
  const large = await door.ask("/fal/rest/storage/upload/initiate-multipart", { json: {} });
  expect(large.status).toBe(413);
  expect(JSON.parse(large.text)).toMatchObject({ message: expect.stringContaining("12 MB") });
});

test("a foreign URL is neither fetched nor passed to a WebUI", async () => {
  const inside = await Origin.open();
  try {
    for (const image_url of [inside.url, `${inside.url}/fal/files/abc`, "http://169.254.169.254/latest"]) {
      const error = await raised(fal(door).run(APP, { input: { prompt: "x", image_url } }));
      expect([error.name, error.status]).toEqual(["ValidationError", 422]);
      expect(error.body.detail).toMatchObject([{ loc: ["body", "image_url"] }]);
    }
    expect([inside.seen, origin.seen]).toEqual([[], []]);
  } finally {
    inside.close();
  }
});

test("an invalid input is a ValidationError that names the field as the caller wrote it", async () => {
  const client = fal(door);
  const input = { prompt: "x", num_inference_steps: 10_000 };
  for (const call of [() => client.run(APP, { input }), () => client.queue.submit(APP, { input })]) {
    const error = await raised(call());
    expect([error.name, error.status]).toEqual(["ValidationError", 422]);
    expect(error.message).toContain("num_inference_steps");
    expect(error.body.detail).toMatchObject([{ loc: ["body", "num_inference_steps"], type: "value_error" }]);
    expect(error.requestId).toMatch(/^req_/);
  }
  expect(origin.seen).toHaveLength(0);
});

test("an origin's own error keeps its status and message, both in run and in the queue", async () => {
  const detail = [{ loc: ["body", "prompt"], msg: "too odd", type: "value_error" }];
  origin.answering = json(422, { detail });
  const client = fal(door);
  const errors = [
    await raised(client.run(APP, { input: { prompt: "x" } })),
    await raised(client.subscribe(APP, { input: { prompt: "x" } })),
  ];
  for (const error of errors)
    expect(error).toMatchObject({ name: "ValidationError", status: 422, message: "too odd", body: { detail } });
  expect(origin.seen).toHaveLength(2);
});

test("a lost connection to the origin is an ApiError with fal's error type, retried only by the client", async () => {
  origin.answering = (res) => void res.socket?.destroy();
  const error = await raised(fal(door).run(APP, { input: { prompt: "x" } }));
  expect(error).toMatchObject({ name: "ApiError", status: 502, body: { error_type: "runner_disconnected" } });
  expect(error.message).toBe(error.body.message);
  expect(origin.seen).toHaveLength(4);
}, 30_000);

test("an answer too large to convert is run once: its status is not one that the client retries", async () => {
  origin.answering = json(200, { images: ["A".repeat(25 * 1024 * 1024)] });
  const error = await raised(fal(door).run(APP, { input: { prompt: "x" } }));
  expect(error).toMatchObject({ status: 500, message: expect.stringMatching(/larger than 24 MiB.*fewer or smaller/) });
  expect(origin.seen).toHaveLength(1);
});

test("x-fal-no-retry allows one attempt, and its error has a status that the client does not retry", async () => {
  origin.answering = (res) => void res.socket?.destroy();
  const client = fal(door);
  const { request_id: requestId } = await client.queue.submit(APP, {
    input: { prompt: "x" },
    headers: { "x-fal-no-retry": "1" },
  });
  await client.queue.subscribeToStatus(APP, { requestId });
  const from = Date.now();
  const error = await raised(client.queue.result(APP, { requestId }));
  expect(error).toMatchObject({ status: 500, body: { error_type: "runner_disconnected" } });
  expect(Date.now() - from).toBeLessThan(900);
  expect(origin.seen).toHaveLength(1);
  expect(await show(door, requestId)).toMatchObject({ status: "failed", attempts: 1 });
});

test("a request that does not start in time gets 504 once, both in run and in the queue", async () => {
  await door.portico.admin("PATCH", "/cards/mine-card", { slots: 1 });
  try {
    const client = fal(door);
    origin.answering = () => undefined;
    const held = new AbortController();
    const call = client.run(APP, { input: { prompt: "held" }, abortSignal: held.signal }).catch(() => null);
    for (; origin.seen.length === 0;) await delay(20);
    const from = Date.now();
    const error = await raised(client.run(APP, { input: { prompt: "x" }, startTimeout: 1.5 }));
    expect(error).toMatchObject({ status: 504, isUserTimeout: true, body: { error_type: "startup_timeout" } });
    expect(Date.now() - from).toBeLessThan(5_000);
    const late = await raised(client.subscribe(APP, { input: { prompt: "y" }, startTimeout: 1.5 }));
    expect(late).toMatchObject({ status: 504, isUserTimeout: true });
    expect(origin.seen).toHaveLength(1);
    held.abort();
    await call;
  } finally {
    await door.portico.admin("PATCH", "/cards/mine-card", { slots: 8 });
  }
}, 30_000);

test("a status request is held until the state changes", async () => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  origin.answering = (res, seen) => {
    if (seen.target === "/words/say") void released.then(() => json(200, {})(res, seen));
    else json(404, {})(res, seen);
  };
  const app = "portico/words/say";
  const { request_id: id } = await fal(door).queue.submit(app, { input: { prompt: "x" } });
  await begun(door, id);
  await delay(450);
  const from = Date.now();
  setTimeout(() => release(), 1_500);
  const look = await door.ask(`/fal/queue/portico/words/requests/${id}/status`);
  expect([look.status, JSON.parse(look.text)]).toMatchObject([200, { status: "COMPLETED" }]);
  expect(Date.now() - from).toBeGreaterThan(1_200);
});

test("an origin's own JSON is the output, with images where the mapping says", async () => {
  origin.answering = json(200, { answer: 42 });
  const client = fal(door);
  for (const call of [
    client.run("portico/words/say", { input: {} }),
    client.subscribe("portico/words/say", { input: {} }),
  ])
    expect((await call).data).toEqual({ answer: 42 });
  expect(origin.seen.map(({ target }) => target)).toEqual(["/words/say", "/words/say"]);
  origin.answering = json(200, { made: PNG });
  for (const call of [
    client.run("portico/pictures", { input: {} }),
    client.subscribe("portico/pictures", { input: {} }),
  ])
    expect(((await call).data as Output).images).toMatchObject([{ content_type: "image/png", width: 1, height: 1 }]);
});

test("a streamed sound is returned as its result's URL, or as data if it must not be stored", async () => {
  const samples = randomBytes(6 * 1024 * 1024);
  const sound = Buffer.concat([wavHeader(samples.length + 36, samples.length), samples]);
  origin.answering = (res) => {
    res.writeHead(200, { "content-type": "audio/wav" });
    res.write(sound.subarray(0, 1_000));
    res.end(sound.subarray(1_000));
  };
  const said = async (headers = {}) => {
    const answer = await door.ask("/fal/run/portico/sounds", { json: { text: "x" }, headers });
    return (JSON.parse(expectOk(answer).text) as Output).audio;
  };
  const { url, ...told } = await said();
  expect(told).toMatchObject({ content_type: "audio/wav", file_size: sound.length });
  expect(expectOk(await door.ask(targetOf(url), { key: null })).body.equals(sound)).toBe(true);
  expect((await said()).url).toContain("/v1/results/");
  expect((await said({ "cache-control": "no-store" })).url).toMatch(/^data:audio\/wav;base64,/);
});

test("an origin's own events and text are passed on unchanged", async () => {
  origin.answering = (res) =>
    void res.writeHead(200, { "content-type": "text/event-stream" }).end('data: {"n":1}\n\ndata: {"n":2}\n\n');
  const stream = await fal(door).stream("portico/words/say", { input: {} });
  const events: unknown[] = [];
  for await (const event of stream) events.push(event);
  expect(events).toEqual([{ n: 1 }, { n: 2 }]);
  origin.answering = (res) => void res.writeHead(200, { "content-type": "text/plain" }).end("hello");
  const { request_id: requestId } = await fal(door).queue.submit("portico/words/say", { input: {} });
  await fal(door).queue.subscribeToStatus("portico/words/say", { requestId });
  expect((await fal(door).queue.result("portico/words/say", { requestId })).data).toBe("hello");
});
