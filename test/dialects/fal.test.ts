/** `/fal` works with the official fal client. */
import type { QueueStatus } from "@fal-ai/client";
import { expect, test } from "vitest";
import { doorway, expectOk, targetOf } from "../contract/doorway.ts";
import { over, show } from "../jobs/shown.ts";
import { fal, type Output, raised, SLOW, SMALL, WAYS } from "./fal-client.ts";
import { sizeOf } from "./client.ts";

const door = doorway({ speed: 1 });
const PORTRAIT = "portico/portrait";

test.each(WAYS)("run, by %s, returns the output with the picture's signed URL", async (way) => {
  const { data, requestId } = await fal(door, way).run(PORTRAIT, {
    input: { prompt: "a lighthouse", seed: 7, ...SMALL },
  });
  const { images, seed, prompt } = data as Output;
  expect(requestId).toMatch(/^req_/);
  expect([seed, prompt]).toEqual([7, "a lighthouse"]);
  expect(images).toMatchObject([{ content_type: "image/png", width: 64, height: 64 }]);
  const png = expectOk(await door.ask(targetOf(images[0]?.url ?? ""), { key: null }));
  expect(sizeOf(png.body)).toEqual({ width: 64, height: 64 });
  expect(png.body.byteLength).toBe(images[0]?.file_size);
});

test.each(WAYS)("subscribe, by %s, reports the states and returns the job's output", async (way) => {
  const updates: QueueStatus[] = [];
  const { data, requestId } = await fal(door, way).subscribe(PORTRAIT, {
    input: { prompt: "a harbour", image_size: "square", num_inference_steps: 60 },
    logs: true,
    onQueueUpdate: (update) => void updates.push(update),
  });
  expect(requestId).toMatch(/^job_/);
  const [last] = updates.slice(-1);
  expect(new Set(updates.map(({ status }) => status)).has("IN_PROGRESS")).toBe(true);
  expect(last).toMatchObject({ status: "COMPLETED", request_id: requestId });
  expect((last as { metrics: { inference_time: number } }).metrics.inference_time).toBeGreaterThan(0);
  expect((last as { logs: { message: string }[] }).logs[0]?.message).toContain("try 1 on gpu-");
  const job = await show(door, requestId);
  expect(job.status).toBe("succeeded");
  const { images } = data as Output;
  expect(images[0]?.url).toContain(job.results[0]?.id);
  expect(images[0]).toMatchObject({ width: 512, height: 512, file_size: job.results[0]?.bytes });
});

test("a queued request can be submitted, watched and read", async () => {
  const { queue } = fal(door);
  const submitted = await queue.submit(PORTRAIT, { input: { prompt: "a pier", ...SMALL }, priority: "low" });
  const { request_id: requestId } = submitted;
  const url = `${door.portico.url}/fal/queue/${PORTRAIT}/requests/${requestId}`;
  expect(submitted).toMatchObject({
    status: "IN_QUEUE",
    response_url: url,
    status_url: `${url}/status`,
    cancel_url: `${url}/cancel`,
  });
  expect(submitted.queue_position).toBeGreaterThanOrEqual(0);
  const done = await queue.subscribeToStatus(PORTRAIT, { requestId });
  expect(done.status).toBe("COMPLETED");
  const { data } = await queue.result(PORTRAIT, { requestId });
  expect((data as Output).images).toHaveLength(1);
  expect(await show(door, requestId)).toMatchObject({ status: "succeeded", priority: "low" });
});

test("status answers 202 until the request has ended, and the output is not available before", async () => {
  const { request_id: id } = await fal(door).queue.submit(PORTRAIT, { input: { prompt: "x", ...SLOW } });
  const at = `/fal/queue/${PORTRAIT}/requests/${id}`;
  const early = await door.ask(at);
  expect([early.status, JSON.parse(early.text)]).toMatchObject([400, { detail: "Request is still in progress" }]);
  expect((await door.ask(`${at}/status`)).status).toBe(202);
  await door.ask(`${at}/cancel`, { method: "PUT" });
  const after = await door.ask(`${at}/status`);
  expect([after.status, after.header("x-fal-request-id")]).toEqual([200, id]);
});

test("the stream of states ends with COMPLETED", async () => {
  for (const way of WAYS) {
    const { queue } = fal(door, way);
    const { request_id: requestId } = await queue.submit(PORTRAIT, { input: { prompt: "x", ...SMALL } });
    const seen: string[] = [];
    const stream = await queue.streamStatus(PORTRAIT, { requestId, logs: true });
    stream.on("data", ({ status }) => void seen.push(status));
    expect(await stream.done()).toMatchObject({ status: "COMPLETED", request_id: requestId });
    expect(seen.at(-1)).toBe("COMPLETED");
  }
});

test("subscribe works in streaming mode", async () => {
  const { data } = await fal(door).subscribe(PORTRAIT, { input: { prompt: "x", ...SMALL }, mode: "streaming" });
  expect((data as Output).images).toHaveLength(1);
});

test("a canceled request is COMPLETED, with the cancellation as its error", async () => {
  const client = fal(door);
  const { request_id: requestId } = await client.queue.submit(PORTRAIT, { input: { prompt: "x", ...SLOW } });
  await client.queue.cancel(PORTRAIT, { requestId });
  expect(await client.queue.status(PORTRAIT, { requestId })).toMatchObject({
    status: "COMPLETED",
    error: "The request was canceled.",
    error_type: "client_cancelled",
  });
  expect(await raised(client.queue.result(PORTRAIT, { requestId }))).toMatchObject({ name: "ApiError", status: 499 });
  expect(await raised(client.queue.cancel(PORTRAIT, { requestId }))).toMatchObject({
    status: 400,
    body: { status: "ALREADY_COMPLETED" },
  });
  expect((await show(door, requestId)).status).toBe("canceled");
  expect(await raised(client.queue.cancel(PORTRAIT, { requestId: "job_nothing" }))).toMatchObject({
    status: 404,
    body: { status: "NOT_FOUND" },
  });
});

test("subscribe with a timeout cancels the job", async () => {
  let id = "";
  const call = fal(door).subscribe(PORTRAIT, {
    input: { prompt: "x", ...SLOW },
    timeout: 800,
    onEnqueue: (requestId) => void (id = requestId),
  });
  await expect(call).rejects.toThrow("timed out");
  expect((await over(door, id)).status).toBe("canceled");
});

test("stream sends a picture's output as one event and a sound's bytes as they arrive", async () => {
  const client = fal(door);
  const pictures = await client.stream(PORTRAIT, { input: { prompt: "x", seed: 3, ...SMALL } });
  const events: Output[] = [];
  for await (const event of pictures) events.push(event as Output);
  expect(events).toMatchObject([{ seed: 3, images: [{ width: 64 }] }]);
  const sound = await client.stream("portico/cosyvoice2", { input: { text: "the tide is in" } });
  const pieces: Uint8Array[] = [];
  for await (const piece of sound) pieces.push(piece);
  await sound.done();
  expect(Buffer.concat(pieces).toString("latin1", 0, 4)).toBe("RIFF");
});

test("a sound is returned as a file with a URL", async () => {
  const { data } = await fal(door).run("portico/cosyvoice2", { input: { text: "the boats are going out" } });
  const { audio } = data as Output;
  expect(audio.content_type).toBe("audio/wav");
  const wav = expectOk(await door.ask(targetOf(audio.url), { key: null }));
  expect(wav.body.byteLength).toBe(audio.file_size);
  const queued = await fal(door).subscribe("portico/cosyvoice2", { input: { text: "and they are back" } });
  expect((queued.data as Output).audio.content_type).toBe("audio/wav");
});

test("a path after the app's name is a path of the origin below the service's route", async () => {
  const { data } = await fal(door).run(`${PORTRAIT}/txt2img`, {
    input: { prompt: "x", seed: 5, width: 48, height: 32, steps: 1 },
  });
  expect((data as Output).images).toMatchObject([{ width: 48, height: 32 }]);
  const { data: many } = await fal(door).subscribe(PORTRAIT, { input: { prompt: "x", num_images: 2, ...SMALL } });
  expect((many as Output).images).toHaveLength(2);
});

test("the output of a no-store request is a data URL", async () => {
  const answer = await door.ask(`/fal/run/${PORTRAIT}`, {
    json: { prompt: "x", ...SMALL },
    headers: { "cache-control": "no-store" },
  });
  const { images } = JSON.parse(expectOk(answer).text) as Output;
  expect(images[0]?.url).toMatch(/^data:image\/png;base64,/);
});

test("an identical picture is a cache hit, whichever way it was made", async () => {
  const json = { prompt: "a lighthouse", seed: 12_345, ...SMALL };
  expectOk(await door.ask(`/fal/run/${PORTRAIT}`, { json }));
  const again = expectOk(await door.ask(`/fal/run/workflows/${PORTRAIT}`, { json }));
  expect(again.header("cache-status")).toContain("hit");
  const native = await door.ask("/sdapi/v1/txt2img", {
    json: { prompt: "a lighthouse", seed: 12_345, steps: 1, width: 64, height: 64 },
  });
  expect(expectOk(native).header("cache-status")).toContain("hit");
});

test("two requests with the same Idempotency-Key are submitted once", async () => {
  const headers = { "idempotency-key": "fal-once" };
  const json = { prompt: "x", ...SMALL };
  const hand = () => door.ask(`/fal/queue/${PORTRAIT}`, { json, headers });
  const [first, second] = [await hand(), await hand()];
  expect(JSON.parse(second.text).request_id).toBe(JSON.parse(first.text).request_id);
  expect(second.header("idempotent-replayed")).toBe("true");
  const other = await door.ask(`/fal/queue/${PORTRAIT}`, { json: { ...json, seed: 1 }, headers });
  expect(other.status).toBe(422);
});
