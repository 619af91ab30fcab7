/** `stream: true` in the image calls, event by event. */
import OpenAI, { toFile } from "openai";
import { afterEach, expect, test } from "vitest";
import { SERVICE_DEFAULTS } from "../../sim/timing.ts";
import { doorway } from "../contract/doorway.ts";
import { PNG } from "../contract/origin.ts";
import { RawCall, bytesOf } from "../support/raw.ts";
import { more, openai, refused, sizeOf } from "./client.ts";

/** Provoked failures must not take the only card out. */
const portrait = { breaker: { max_fails: 1_000 }, retry: { tries: 1 } };
const door = doorway({ park: { servers: 1, gpus: 1 }, services: { portrait } });
afterEach(async () => {
  door.park.setService({ ...SERVICE_DEFAULTS, service_ms: null, speed: 0.1 });
  await door.park.heal();
});

const RUN_MS = 3_000;
const ASKED = { model: "portrait", size: "64x64", stream: true } as const;

interface Seen {
  type: string;
  b64_json: string;
  partial_image_index?: number;
  ms: number;
}

async function streamed(client: OpenAI, fields: object): Promise<Seen[]> {
  const from = performance.now();
  const stream = await client.images.generate(more({ ...ASKED, prompt: "a shoal" }, { ...fields }));
  const seen: Seen[] = [];
  for await (const event of stream) seen.push({ ...event, ms: performance.now() - from });
  return seen;
}

test("previews come while the card works, then the finished picture", async () => {
  door.park.setService({ service_ms: RUN_MS });
  const seen = await streamed(openai(door), { partial_images: 2 });
  expect(seen.map(({ type }) => type)).toEqual([
    "image_generation.partial_image",
    "image_generation.partial_image",
    "image_generation.completed",
  ]);
  expect(seen.map(({ partial_image_index }) => partial_image_index)).toEqual([0, 1, undefined]);
  for (const { b64_json } of seen) expect(Buffer.from(b64_json, "base64").subarray(1, 4).toString()).toBe("PNG");
  expect(sizeOf(Buffer.from(seen.at(-1)?.b64_json ?? "", "base64"))).toEqual({ width: 64, height: 64 });
  const [first, second, last] = seen.map(({ ms }) => ms);
  expect(first).toBeLessThan(RUN_MS * 0.75);
  expect(second).toBeLessThan(RUN_MS);
  expect(last).toBeGreaterThanOrEqual(RUN_MS);
});

test("no preview is taken while another tenant's run is on the card", async () => {
  door.park.setService({ service_ms: RUN_MS });
  const other = openai(door, { apiKey: await door.key() });
  const theirs = other.images.generate({ model: "portrait", prompt: "a secret", size: "64x64" });
  await expect.poll(() => door.park.counts().running).toBe(1);
  const seen = await streamed(openai(door), {});
  expect(seen.map(({ type }) => type)).toEqual(["image_generation.completed"]);
  await theirs;
});

test("`partial_images: 0` gives only the finished picture, and a hit gives it at once", async () => {
  const first = await streamed(openai(door), { partial_images: 0, seed: 3 });
  const second = await streamed(openai(door), { seed: 3 });
  expect([...first, ...second].map(({ type }) => type)).toEqual(Array(2).fill("image_generation.completed"));
  expect(second[0]?.b64_json).toBe(first[0]?.b64_json);
});

test("several pictures give as many completed events", async () => {
  expect(await streamed(openai(door), { n: 3, partial_images: 0 })).toHaveLength(3);
});

test("an edit streams under its own event names", async () => {
  const image = await toFile(Buffer.from(PNG, "base64"), "p.png", { type: "image/png" });
  const stream = await openai(door).images.edit({ ...ASKED, image, prompt: "x" });
  const types: string[] = [];
  for await (const event of stream) types.push(event.type);
  expect(types.at(-1)).toBe("image_edit.completed");
});

test("a waiting request gets comments with its place in line and its estimated wait", async () => {
  await streamed(openai(door), {});
  door.park.setService({ service_ms: RUN_MS });
  const busy = await Promise.all(Array.from({ length: 2 }, async () => openai(door, { apiKey: await door.key() })));
  const held = busy.map((client) => client.images.generate({ model: "portrait", prompt: "x", size: "64x64" }));
  await expect.poll(() => door.park.counts().running).toBe(2);
  const answer = await door.ask("/v1/images/generations", { json: { ...ASKED, prompt: "x" } });
  expect(answer.header("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(answer.text).toMatch(/^: queue=1 eta=\d+\n\n/);
  expect(answer.text).toContain('"type":"image_generation.completed"');
  expect(answer.whole).toBe(true);
  await Promise.all(held);
});

test("a request refused at once gets a status, before any event", async () => {
  const error = await refused(openai(door).images.generate({ ...ASKED, prompt: "x", n: 9 }));
  expect(error).toBeInstanceOf(OpenAI.BadRequestError);
  const fields = more({ ...ASKED, prompt: "x" }, { sampler_name: "none such" });
  expect((await refused(openai(door).images.generate(fields))).message).toContain("Sampler not found");
  await door.portico.admin("POST", "/services/portrait/pause");
  const paused = await refused(openai(door).images.generate({ ...ASKED, prompt: "x" }));
  await door.portico.admin("POST", "/services/portrait/resume");
  expect(paused).toMatchObject({ status: 503, code: "service_unavailable" });
});

test("a failure after the headers is an error event, and the stream does not look successful", async () => {
  door.park.setService({ service_ms: 1_500 });
  for (const { card } of door.park.cards) await door.park.setFault(card, { kind: "status", status: 500, at: "end" });
  const call = streamed(openai(door), {});
  await expect(call).rejects.toThrow(OpenAI.APIError);
  await expect(call).rejects.toMatchObject({ code: "bad_gateway" });
});

test("a caller that hangs up while waiting leaves the line", async () => {
  door.park.setService({ service_ms: RUN_MS });
  const busy = await Promise.all(Array.from({ length: 2 }, async () => openai(door, { apiKey: await door.key() })));
  const held = busy.map((client) => client.images.generate({ model: "portrait", prompt: "x", size: "64x64" }));
  await expect.poll(() => door.park.counts().running).toBe(2);
  const call = await RawCall.open(door.portico.url);
  const body = JSON.stringify({ ...ASKED, prompt: "left alone" });
  const headers = { authorization: `Bearer ${door.ownKey}`, "content-type": "application/json" };
  call.send(bytesOf(call.host, { method: "POST", target: "/v1/images/generations", headers, body }));
  expect((await call.head()).status).toBe(200);
  const queued = async () => {
    const status = JSON.parse((await door.ask("/cluster/status", { key: null })).text) as { queued: number };
    return status.queued;
  };
  await expect.poll(queued).toBe(1);
  call.reset();
  await expect.poll(queued, { timeout: 2_500 }).toBe(0);
  await Promise.all(held);
  expect(door.park.runs().some(({ prompt }) => prompt === "left alone")).toBe(false);
});

test("the run ends after its client aborts the stream", async () => {
  door.park.setService({ service_ms: RUN_MS });
  const stream = await openai(door).images.generate({ ...ASKED, prompt: "aborted" });
  stream.controller.abort();
  await expect.poll(() => door.park.counts().running, { timeout: 10_000 }).toBe(0);
});
