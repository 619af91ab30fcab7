/** Jobs whose answer cannot be kept: permanent failures end at once, temporary ones are retried. */
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway, errorOf } from "../contract/doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "../contract/origin.ts";
import { fal, raised } from "../dialects/fal-client.ts";
import { eventually } from "../line/caller.ts";
import { begun, type JobShown, over, show, submitted } from "./shown.ts";

const MIB = 1024 * 1024;
const SLOW_MS_MAX = 60_000;
/** Longer than the first pause before a retry. */
const RETRIED_MS_MAX = 30_000;
const MESSAGE = /larger than 16 MiB.*fewer or smaller images/;
/** Callers and their body size. Each takes three times its size; together they nearly fill the tenant's buffers. */
const HOLDERS = 3;
const HELD_BYTES = 7.9 * 1e6;

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  const breaker = { max_fails: 1_000 };
  await listOrigin(door, origin, "large", { kind: "image", route: "/large/", breaker });
  await listOrigin(door, origin, "plain", { kind: "http", route: "/plain/", breaker });
  await listOrigin(door, origin, "busy", { kind: "http", route: "/busy/" }, { slots: 1 });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

/** Answers with JSON of slightly more than this many bytes. */
const jsonOf =
  (bytes: number, status = 200): Answering =>
  (res) => {
    const images = ["A".repeat(bytes / 2), "A".repeat(bytes / 2)];
    res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ images }));
  };
async function queuedAt(service: string): Promise<number> {
  const status = JSON.parse((await door.ask("/cluster/status", { key: null })).text) as {
    services: { id: string; queued: number }[];
  };
  return status.services.find(({ id }) => id === service)?.queued ?? 0;
}

const starts = (path: string) => origin.seen.filter(({ target }) => target === path).length;
const job = { service: "large", input: { prompt: "x" } };

test("a job whose JSON answer exceeds 16 MiB fails after one start, is not retried and says what to do", async () => {
  origin.answering = jsonOf(27 * MIB);
  const failed = await over(door, await submitted(door, job));
  expect(failed).toMatchObject({ status: "failed", attempts: 1, results: [], output: null });
  expect(failed.error).toMatchObject({ reason: "origin_invalid", retryable: false, started: "yes" });
  expect(failed.error?.["message"]).toMatch(MESSAGE);
  expect(starts("/large/txt2img")).toBe(1);
});

test("an answer over 16 MiB also fails at once by Prefer, by Replicate and by fal's queue", async () => {
  origin.answering = jsonOf(20 * MIB);
  const headers = { prefer: "wait=20" };
  const waited = await door.ask("/large/txt2img", { json: { prompt: "x" }, headers });
  expect([waited.status, waited.header("x-should-retry")]).toEqual([502, "false"]);
  expect(errorOf(waited)).toMatchObject({ reason: "origin_invalid", retryable: false });
  const created = await door.ask("/replicate/v1/predictions", {
    json: { version: "portico/large", input: { prompt: "x" } },
    headers,
  });
  expect(JSON.parse(created.text)).toMatchObject({ status: "failed", error: expect.stringMatching(MESSAGE) });
  const error = await raised(fal(door).subscribe("portico/large", { input: { prompt: "x" } }));
  expect([error.status, error.message]).toEqual([500, expect.stringMatching(MESSAGE)]);
  expect(starts("/large/txt2img")).toBe(3);
});

test("an origin's error over 16 MiB fails the job like a small one", async () => {
  origin.answering = jsonOf(20 * MIB, 422);
  const failed = await over(door, await submitted(door, job));
  expect(failed).toMatchObject({ status: "failed", attempts: 1, error: { reason: "origin_status", retryable: false } });
  expect(starts("/large/txt2img")).toBe(1);
});

test("a job that follows an identical job's run gets the output of that run", async () => {
  await door.portico.admin("PUT", "/services/plain", { cache: { enabled: true } });
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  origin.answering = (res) =>
    void released.then(() => res.writeHead(200, { "content-type": "application/json" }).end('{"made":1}'));
  const same = { service: "plain", path: "same", input: { a: 1 } };
  const ids = [await submitted(door, same)];
  await begun(door, ids[0] ?? "");
  ids.push(await submitted(door, same));
  await delay(1_000);
  release();
  for (const id of ids) {
    const ended = await over(door, id);
    expect(ended).toMatchObject({ status: "succeeded", output: { made: 1 } });
    expect(ended.tries.filter(({ error }) => error !== null)).toEqual([]);
  }
  expect(starts("/plain/same")).toBe(1);
});

test(
  "an answer for which the buffers have no room is retried, and kept once there is room",
  async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const large = jsonOf(14 * MIB);
    origin.answering = (res, seen) =>
      seen.target === "/busy/run" ? void released.then(() => res.end("done")) : large(res, seen);
    const headers = { "content-type": "application/octet-stream" };
    const body = Buffer.alloc(HELD_BYTES);
    const holders: Promise<unknown>[] = [];
    // One after the other, so that none is refused because another is still being received.
    for (let waiting = 0; waiting < HOLDERS; waiting++) {
      holders.push(door.ask("/busy/run", { body, headers }));
      await eventually("it runs or is in line", async () => {
        const atOrigin = starts("/busy/run");
        return atOrigin === 1 && (await queuedAt("busy")) === waiting;
      });
    }
    const id = await submitted(door, { service: "plain", path: "make", input: {} });
    let shown: JobShown;
    do {
      await delay(200);
      shown = await show(door, id);
      expect(shown.finished_at).toBeNull();
    } while (shown.tries[0]?.error === undefined || shown.tries[0].error === null);
    expect(shown.tries[0].error).toMatchObject({ reason: "queue_full", retryable: true, started: "yes" });
    release();
    await Promise.all(holders);
    const ended = await over(door, id, door.ownKey, RETRIED_MS_MAX);
    expect(ended).toMatchObject({ status: "succeeded", attempts: 2 });
    expect(starts("/plain/make")).toBe(2);
  },
  SLOW_MS_MAX,
);
