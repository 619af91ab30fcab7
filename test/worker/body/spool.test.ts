/** A spooled body that R2 does not give back: what the run under whose lease it is asked for comes to, and when. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Ask } from "../../../worker/ask.ts";
import { Spooled } from "../../../worker/body/spool.ts";
import { callOrigin } from "../../../worker/origin.ts";
import { Silence } from "../../../worker/run/silence.ts";

const READ_MS = 300_000;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, "error").mockReturnValue();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A call with a body that never comes out of R2. `readMs`: longest silence of the origin. */
function calling(readMs: number) {
  const bucket = { get: () => new Promise(() => {}) } as unknown as R2Bucket;
  const body = new Spooled(bucket, "inputs/x", 10, () => undefined);
  const service = { config: { kind: "http" } };
  const ask = { method: "POST", path: "/", query: "", headers: new Headers(), body, service, as: "run" };
  const call = { requestId: "r", number: 1, clientAddress: null, base: "http://us", cacheable: false, readMs };
  const route = { card: "c1", origin: "http://127.0.0.1:9", transport: "direct" as const, access: null };
  const controller = new AbortController();
  const reply = callOrigin(ask as unknown as Ask, route, call, controller, new Silence(readMs, controller));
  return { reply, controller };
}

test("a body that R2 does not give within 10 s fails as ours, and leaves its slot clean", async () => {
  const { reply } = calling(READ_MS);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await reply).toMatchObject({ reason: "internal", started: "no", clean: true });
});

test("a silence that is shorter ends the wait, and is not the origin's", async () => {
  const { reply } = calling(500);
  await vi.advanceTimersByTimeAsync(500);
  expect(await reply).toMatchObject({ reason: "internal", started: "no", clean: true });
});

test("a caller who goes ends the wait at once", async () => {
  const { reply, controller } = calling(READ_MS);
  controller.abort(new Error("the caller is gone"));
  await vi.advanceTimersByTimeAsync(0);
  expect(await reply).toMatchObject({ reason: "client_gone", started: "no", clean: true });
});
