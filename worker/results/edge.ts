/** Copies at this edge location. They live so briefly that a deletion made elsewhere takes effect within a minute. */

import { withTimeout } from "../../durable-objects/timeout.ts";
import { Room } from "../body/buffers.ts";
import { unlessLate } from "../run/until.ts";

/** Larger objects go from R2 to the reader without a copy. */
const COPY_BYTES_MAX = 16 * 1024 * 1024;
/** Longest lifetime of a copy, seconds; the contract allows a deletion 60. */
const LIFE_S_MAX = 55;
/** An edge cache that does not respond within this time counts as a miss, ms. */
const MATCH_MS_MAX = 1_000;
/** Metadata stored with a copy, as JSON. */
const BESIDE = "x-portico-beside";
/** When the copy was made, ms since the epoch. */
const COPIED = "x-portico-copied";

/** Where copies are made, and the bucket they are made from. */
export interface EdgeTarget {
  base: string;
  bucket: R2Bucket;
  /** Keeps work alive that the reader need not wait for. */
  later: (work: Promise<unknown>) => void;
}

export interface EdgeCopy<Beside> {
  beside: Beside;
  body: ReadableStream | null;
  bytes: number;
  copiedAt: number;
}

/** Cache entries are named by URLs. This one is not a route, so nobody can request it. */
const urlOf = (base: string, key: string) => `${base}/.edge/${key}`;

/** Returns the edge copy of the R2 object with this key, and its metadata. The caller must read or cancel the body. */
export async function findEdgeCopy<Beside>(base: string, key: string): Promise<EdgeCopy<Beside> | null> {
  const near = await unlessLate(caches.default.match(urlOf(base, key)), Date.now() + MATCH_MS_MAX);
  if (near === null) console.warn(JSON.stringify({ event: "edge_slow", key }));
  if (near === null || near === undefined) return null;
  const beside = JSON.parse(near.headers.get(BESIDE) ?? "null") as Beside;
  const [bytes = 0, copiedAt = 0] = ["content-length", COPIED].map((name) => Number(near.headers.get(name)));
  return { beside, body: near.body, bytes, copiedAt };
}

/**
 * Returns an R2 object's body and puts a copy of it at the edge. An object that is too large, or for which there is no
 * memory now, is passed through without a copy.
 */
export async function readThroughEdge(
  { base, bucket, later }: EdgeTarget,
  object: R2ObjectBody,
  beside: { expiresAt: number | string },
): Promise<ReadableStream> {
  const room = new Room();
  // Once for the reader, once for the copy.
  if (object.size > COPY_BYTES_MAX || !room.grow(2 * object.size)) return object.body;
  const reading = withTimeout(object.arrayBuffer());
  // Kept alive from here on: otherwise a reader who disconnects would prevent the buffers from being freed.
  later(
    reading
      .then(async (bytes) => {
        await withTimeout(keepEdgeCopy(base, object.key, bytes, beside, Date.now()));
        // If the object was deleted or replaced meanwhile, its edge copy was removed before this one was put, so this
        // one must go too.
        if ((await withTimeout(bucket.head(object.key)))?.version !== object.version)
          await forgetEdgeCopy(base, object.key);
      })
      .catch((error: unknown) => console.warn(JSON.stringify({ event: "edge_copy_failed", error: String(error) })))
      .finally(() => room.free()),
  );
  return new Response(await reading).body as ReadableStream;
}

/** Puts a copy that expires no later than its original. */
async function keepEdgeCopy(
  base: string,
  key: string,
  bytes: Uint8Array | ArrayBuffer,
  beside: { expiresAt: number | string },
  now: number,
): Promise<void> {
  const life = Math.min(LIFE_S_MAX, Math.floor((Number(beside.expiresAt) - now) / 1000));
  if (life < 1) return;
  const headers = {
    "cache-control": `max-age=${life}`,
    "content-length": String(bytes.byteLength),
    [BESIDE]: JSON.stringify(beside),
    [COPIED]: String(now),
  };
  try {
    await caches.default.put(urlOf(base, key), new Response(bytes, { headers }));
  } catch (error) {
    // Not critical: the next reader gets it from R2.
    console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }));
  }
}

export async function forgetEdgeCopy(base: string, key: string): Promise<void> {
  await withTimeout(caches.default.delete(urlOf(base, key)));
}
