/** What is kept of an answer where R2 fails or says nothing: all that was planned, or nothing. */
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

/** R2 in small; `put` comes before each write, with how many were begun. */
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

/** Keeps an answer of two pictures; `work` is what outlives it. */
function keeping(bucket: Bucket, work: Promise<unknown>[] = []): Promise<Kept> {
  const config = { model_version: null };
  const ask = { service: { id: "s", config }, delivery: { visibility: "tenant", lifeMs: TTL_MS } };
  const answer = { fingerprint: "f".repeat(64), shared: true, replace: false, ttlMs: TTL_MS, keepMs: TTL_MS };
  const later = (one: Promise<unknown>): void => void work.push(one);
  const of = { ask, tenant: "ten_a", requestId: "r", base: "http://us", later, answer } as unknown as Keeping;
  return keep({ RESULTS: bucket } as unknown as Env, of, plan(of, WHOLE, PIECES), WHOLE, PIECES);
}

test("what was written before or after another write failed goes again", async () => {
  let results = 0;
  const bucket = new Bucket(async (key) => {
    // Of the two results the first is there at once.
    if (key.startsWith("results/") && results++ > 0) throw new Error("R2 stumbles");
    // The answers take longer than three failures do.
    if (!key.startsWith("results/")) await scheduler.wait(600);
  });
  const work: Promise<unknown>[] = [];
  expect(await keeping(bucket, work)).toBe(NOTHING_KEPT);
  await Promise.all(work);
  expect([...bucket.there.keys()]).toEqual([]);
});

test("an answer that was there before stays when a later one cannot be kept", async () => {
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

test("a store that says nothing holds its caller for 10 s, and what it wrote by and by goes again", async () => {
  vi.useFakeTimers();
  const slow = Promise.withResolvers<void>();
  const bucket = new Bucket((_, begun) => (begun === 1 ? slow.promise : Promise.resolve()));
  const work: Promise<unknown>[] = [];
  const kept = keeping(bucket, work);
  // Digests are made outside of the clock.
  await vi.waitFor(() => expect(bucket.there.size).toBe(3));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await kept).toBe(NOTHING_KEPT);
  slow.resolve();
  await Promise.all(work);
  expect([...bucket.there.keys()]).toEqual([]);
});

test("a store that never says anything is not waited for without end", async () => {
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
