/** A spooled body that R2 does not return: how and when the run that needs it ends. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Ask } from "../../../worker/ask.ts";
import { Spooled } from "../../../worker/body/spool.ts";
import { callOrigin } from "../../../worker/origin.ts";
import { ReadTimeout } from "../../../worker/run/read-timeout.ts";

const READ_MS = 300_000;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, "error").mockReturnValue();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A call with a body that R2 never returns. `readMs`: longest silence of the origin. */
function calling(readMs: number) {
  const bucket = { get: () => new Promise(() => {}) } as unknown as R2Bucket;
  const body = new Spooled(bucket, "inputs/x", 10, () => undefined);
  const service = { config: { kind: "http" } };
  const ask = { method: "POST", path: "/", query: "", headers: new Headers(), body, service, as: "run" };
  const call = { requestId: "r", number: 1, clientAddress: null, base: "http://us", cacheable: false, readMs };
  const route = { card: "c1", origin: "http://127.0.0.1:9", transport: "direct" as const, access: null };
  const controller = new AbortController();
  const reply = callOrigin(ask as unknown as Ask, route, call, controller, new ReadTimeout(readMs, controller));
  return { reply, controller };
}

test("a body that R2 does not return within 10 s is an internal error with a clean slot", async () => {
  const { reply } = calling(READ_MS);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await reply).toMatchObject({ reason: "internal", started: "no", clean: true });
});

test("a shorter read timeout ends the wait, and is not blamed on the origin", async () => {
  const { reply } = calling(500);
  await vi.advanceTimersByTimeAsync(500);
  expect(await reply).toMatchObject({ reason: "internal", started: "no", clean: true });
});

test("a caller that disconnects ends the wait at once", async () => {
  const { reply, controller } = calling(READ_MS);
  controller.abort(new Error("the caller is gone"));
  await vi.advanceTimersByTimeAsync(0);
  expect(await reply).toMatchObject({ reason: "client_gone", started: "no", clean: true });
});
