/** R2 or an edge location that does not answer: waits for it are bounded. */
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CallTimeout } from "../../../durable-objects/timeout.ts";
import { lookUp } from "../../../worker/cache.ts";
import { PartWriter, PART_BYTES } from "../../../worker/results/part-writer.ts";
import { findEdgeCopy } from "../../../worker/results/edge.ts";
import { findStored } from "../../../worker/results/recall.ts";
import { getResult } from "../../../worker/results/results.ts";
import { resultsOf } from "../../../worker/results/result.ts";

const never = () => new Promise<never>(() => {});
const BASE = "https://portico.example";
const ID = "pub_000000000000000000000000";
const bucket = { get: never, head: never, createMultipartUpload: never } as unknown as R2Bucket;
const silent = { ...env, RESULTS: bucket };
const ctx = { waitUntil: () => undefined } as unknown as ExecutionContext;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, "warn").mockReturnValue();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** How a wait ends within `ms`. */
async function within<T>(ms: number, wait: Promise<T>): Promise<T | "a failure" | "silence"> {
  let end: T | "a failure" | "silence" = "silence";
  void wait.then(
    (value) => (end = value),
    (error: unknown) => (end = error instanceof CallTimeout ? "a failure" : "silence"),
  );
  for (let passed = 0; passed < ms; passed += 100) await vi.advanceTimersByTimeAsync(100);
  return end;
}

test("a cache look-up in R2 fails after 5 s", async () => {
  vi.spyOn(caches.default, "match").mockResolvedValue(undefined);
  expect(await within(5_000, lookUp({ env: silent, base: BASE, ctx }, "ten_a/answers/f", 0))).toBe("a failure");
});

test("a request waits for a stored answer for at most 5 s", async () => {
  vi.spyOn(caches.default, "match").mockResolvedValue(undefined);
  const fingerprint = { cacheable: true, key: "f", scope: "tenant" };
  const asking = { env: silent, base: BASE, ctx, fingerprint, caller: { tenant: "ten_a" }, trace: { id: "r" } };
  expect(await within(5_000, findStored(asking as never))).toBeNull();
});

test("an edge location that does not answer within a second counts as having no copy", async () => {
  vi.spyOn(caches.default, "match").mockImplementation(never);
  expect(await within(1_000, findEdgeCopy(BASE, "results/x"))).toBeNull();
});

test("reading a result fails after 10 s", async () => {
  vi.spyOn(caches.default, "match").mockResolvedValue(undefined);
  const asking = { request: new Request(`${BASE}/v1/results/${ID}`), env: silent, ctx, base: BASE, id: ID };
  const trace = { headers: new Headers(), stages: {} };
  expect(await within(10_000, getResult({ ...asking, trace } as never))).toBe("a failure");
  expect(await within(10_000, resultsOf(silent, "ten_a", [ID]))).toBe("a failure");
});

test("uploading a part fails after 10 s, and the upload fails with it", async () => {
  const deposit = new PartWriter(bucket, "results/x");
  await deposit.write(new Uint8Array(PART_BYTES));
  expect(await within(10_000, deposit.complete())).toBe("a failure");
  await deposit.abort();
});
