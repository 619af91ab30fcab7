/** Copies at this edge location: so short-lived that a deletion, made elsewhere, reaches them within a minute. */

import { answered } from "../../durable-objects/answer-protocol.ts";
import { Room } from "../body/buffers.ts";
import { unlessLate } from "../run/until.ts";

/** What is larger goes from R2 to its reader without a copy. */
const COPY_BYTES_MAX = 16 * 1024 * 1024;
/** Longest life of a copy, seconds: the contract's bound on a deletion is 60. */
const LIFE_S_MAX = 55;
/** A location that says nothing for so long counts as one without a copy, ms. */
const MATCH_MS_MAX = 1_000;
/** What stands beside a copy's bytes, as JSON. */
const BESIDE = "x-portico-beside";
/** When the copy was made, ms of the epoch. */
const COPIED = "x-portico-copied";

/** What copies are made of, and where. */
export interface Place {
  base: string;
  bucket: R2Bucket;
  /** Holds work that the reader need not wait for. */
  later: (work: Promise<unknown>) => void;
}

export interface Near<Beside> {
  beside: Beside;
  body: ReadableStream | null;
  bytes: number;
  copiedAt: number;
}

/** Cache entries are named by URLs; this one is no route, so that nobody can ask for it. */
const urlOf = (base: string, key: string) => `${base}/.edge/${key}`;

/** The copy of what lies in R2 under this key, with what was put beside it; its body is the caller's to read or cancel. */
export async function findNear<Beside>(base: string, key: string): Promise<Near<Beside> | null> {
  const near = await unlessLate(caches.default.match(urlOf(base, key)), Date.now() + MATCH_MS_MAX);
  if (near === null) console.warn(JSON.stringify({ event: "edge_silent", key }));
  if (near === null || near === undefined) return null;
  const beside = JSON.parse(near.headers.get(BESIDE) ?? "null") as Beside;
  const [bytes = 0, copiedAt = 0] = ["content-length", COPIED].map((name) => Number(near.headers.get(name)));
  return { beside, body: near.body, bytes, copiedAt };
}

/**
 * What lies in R2, for a reader, with a copy put here for those who come after; what is too large for that, or finds no
 * room in memory now, goes through as it comes.
 */
export async function readNear(
  { base, bucket, later }: Place,
  object: R2ObjectBody,
  beside: { expiresAt: number | string },
): Promise<ReadableStream> {
  const room = new Room();
  // Once for the reader, once for the copy.
  if (object.size > COPY_BYTES_MAX || !room.grow(2 * object.size)) return object.body;
  const reading = answered(object.arrayBuffer());
  // Held from here on: a reader who goes would take the freeing along.
  later(
    reading
      .then(async (bytes) => {
        await answered(keepNear(base, object.key, bytes, beside, Date.now()));
        // What was deleted or replaced meanwhile was forgotten before this copy of it was put: it must not come back.
        if ((await answered(bucket.head(object.key)))?.version !== object.version) await forgetNear(base, object.key);
      })
      .catch((error: unknown) => console.warn(JSON.stringify({ event: "edge_copy_failed", error: String(error) })))
      .finally(() => room.free()),
  );
  return new Response(await reading).body as ReadableStream;
}

/** Puts a copy here; never later than what it is a copy of expires. */
async function keepNear(
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
    // R2 has it: who asks next gets it from there.
    console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }));
  }
}

export async function forgetNear(base: string, key: string): Promise<void> {
  await answered(caches.default.delete(urlOf(base, key)));
}
