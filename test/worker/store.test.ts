/** What is stored of an answer when R2 fails or does not answer: everything planned, or nothing. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Env } from "../../worker/env.ts";
import type { Piece, Whole } from "../../worker/results/pieces.ts";
import { keep, type Kept, type Keeping, NOTHING_KEPT, plan } from "../../worker/store.ts";

const TTL_MS = 60_000;
const PIECES: Piece[] = [1, 2].map((byte) => ({ type: "image/png", bytes: new Uint8Array([byte]) }));
const WHOLE: Whole = { status: 200, headers: new Headers(), bytes: new Uint8Array([1, 2]), endKnown: true };

beforeEach(() => {
  vi.spyOn(console, "error").mockReturnValue();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A small fake of R2; calls `before` with the number of writes begun before each write. */
class Bucket {
  readonly there = new Map<string, Record<string, string>>();
  readonly #before: (key: string, begun: number) => Promise<void>;
  #begun = 0;

  constructor(before: (key: string, begun: number) => Promise<void>) {
    this.#before = before;
  }

  async put(key: string, _: unknown, { customMetadata, onlyIf }: R2PutOptions): Promise<object | null> {
    await this.#before(key, ++this.#begun);
    if (onlyIf !== undefined && this.there.has(key)) return null;
    this.there.set(key, customMetadata ?? {});
    return {};
  }

  async head(key: string): Promise<object | null> {
    const customMetadata = this.there.get(key);
    return customMetadata === undefined ? null : { customMetadata };
  }

  async delete(keys: string[]): Promise<void> {
    for (const key of keys) this.there.delete(key);
  }
}

/** Stores an answer of two pictures; `work` collects the background work. */
function keeping(bucket: Bucket, work: Promise<unknown>[] = []): Promise<Kept> {
  const config = { model_version: null };
  const ask = { service: { id: "s", config }, delivery: { visibility: "tenant", lifeMs: TTL_MS } };
  const answer = { fingerprint: "f".repeat(64), shared: true, replace: false, ttlMs: TTL_MS, keepMs: TTL_MS };
  const later = (one: Promise<unknown>): void => void work.push(one);
  const of = { ask, tenant: "ten_a", requestId: "r", base: "http://us", later, answer } as unknown as Keeping;
  return keep({ RESULTS: bucket } as unknown as Env, of, plan(of, WHOLE, PIECES), WHOLE, PIECES);
}

test("writes that succeed before or after another one failed are removed again", async () => {
  let results = 0;
  const bucket = new Bucket(async (key) => {
    // The first of the two results is written at once.
    if (key.startsWith("results/") && results++ > 0) throw new Error("R2 stumbles");
    // The answers take longer than three failures do.
    if (!key.startsWith("results/")) await scheduler.wait(600);
  });
  const work: Promise<unknown>[] = [];
  expect(await keeping(bucket, work)).toBe(NOTHING_KEPT);
  await Promise.all(work);
  expect([...bucket.there.keys()]).toEqual([]);
});

test("an answer stored earlier stays when a later one cannot be stored", async () => {
  const bucket = new Bucket(async (key) => {
    if (key.startsWith("results/")) throw new Error("R2 stumbles");
  });
  const earlier = { maker: "ten_a", results: "prv_a", storedAt: "1" };
  const keys = [`ten_a/answers/${"f".repeat(64)}`, `shared/answers/${"f".repeat(64)}`];
  for (const key of keys) bucket.there.set(key, earlier);
  const work: Promise<unknown>[] = [];
  expect(await keeping(bucket, work)).toBe(NOTHING_KEPT);
  await Promise.all(work);
  expect([...bucket.there.keys()]).toEqual(keys);
});

test("a store that does not answer delays its caller for 10 s, and its late write is removed again", async () => {
  vi.useFakeTimers();
  const slow = Promise.withResolvers<void>();
  const bucket = new Bucket((_, begun) => (begun === 1 ? slow.promise : Promise.resolve()));
  const work: Promise<unknown>[] = [];
  const kept = keeping(bucket, work);
  // Digests are not computed on the fake clock.
  await vi.waitFor(() => expect(bucket.there.size).toBe(3));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await kept).toBe(NOTHING_KEPT);
  slow.resolve();
  await Promise.all(work);
  expect([...bucket.there.keys()]).toEqual([]);
});

test("a store that never answers is not waited for indefinitely", async () => {
  vi.useFakeTimers();
  const bucket = new Bucket(() => new Promise(() => {}));
  const work: Promise<unknown>[] = [];
  const put = vi.spyOn(bucket, "put");
  const kept = keeping(bucket, work);
  await vi.waitFor(() => expect(put).toHaveBeenCalledTimes(4));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await kept).toBe(NOTHING_KEPT);
  await vi.advanceTimersByTimeAsync(15_000);
  await Promise.all(work);
});
