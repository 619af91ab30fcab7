/**
 * Stage 3: have we got it. Two layers: the edge location's cache, then R2. An answer is kept under
 * `<scope>/answers/<fingerprint>`; an edge location keeps a copy for so short a time that a deletion reaches every
 * location within a minute.
 */
import type { Env } from "./env.ts";

/** Longest life of an edge copy, seconds: the contract's bound on a deletion is 60. */
const EDGE_S_MAX = 55;

export interface Stored {
  status: number;
  headers: Headers;
  body: ReadableStream | ArrayBuffer | null;
  bytes: number;
  /** Result ids that this answer holds. */
  results: string[];
  storedAt: number;
  expiresAt: number;
}

/** What stands beside the bytes, in R2 and at the edge. */
export interface AnswerMeta {
  status: string;
  results: string;
  storedAt: string;
  expiresAt: string;
  /** The tenant whose request made it. */
  maker: string;
  /** The origin's headers that callers get, as JSON pairs. */
  headers: string;
}

export const answerKey = (scope: string, fingerprint: string) => `${scope}/answers/${fingerprint}`;

/** Cache entries are named by URLs; this one is no route, so that nobody can ask for it. */
export const edgeUrl = (base: string, key: string) => `${base}/.edge/${key}`;

const META = "x-portico-answer";

/** The stored answer, if there is one that is fresh; `expired` when the one there is over. */
export async function lookUp(env: Env, base: string, key: string, now: number): Promise<Stored | "expired" | null> {
  const near = await caches.default.match(edgeUrl(base, key));
  if (near !== undefined) {
    const meta = JSON.parse(near.headers.get(META) ?? "null") as AnswerMeta | null;
    if (meta !== null && Number(meta.expiresAt) > now) {
      return stored(meta, near.body, Number(near.headers.get("content-length") ?? 0));
    }
    await near.body?.cancel();
  }
  const object = await env.RESULTS.get(key);
  if (object === null) return null;
  const meta = object.customMetadata as unknown as AnswerMeta;
  if (Number(meta.expiresAt) <= now) {
    await object.body.cancel();
    return "expired";
  }
  return stored(meta, object.body, object.size);
}

function stored(meta: AnswerMeta, body: ReadableStream | null, bytes: number): Stored {
  return {
    status: Number(meta.status),
    headers: new Headers(JSON.parse(meta.headers) as [string, string][]),
    body,
    bytes,
    results: meta.results === "" ? [] : meta.results.split(","),
    storedAt: Number(meta.storedAt),
    expiresAt: Number(meta.expiresAt),
  };
}

/** Puts a copy of an answer into this edge location's cache. */
export async function keepNear(
  base: string,
  key: string,
  bytes: Uint8Array,
  meta: AnswerMeta,
  now: number,
): Promise<void> {
  const life = Math.min(EDGE_S_MAX, Math.floor((Number(meta.expiresAt) - now) / 1000));
  if (life < 1) return;
  const headers = {
    "content-type": "application/octet-stream",
    "content-length": String(bytes.byteLength),
    "cache-control": `max-age=${life}`,
    [META]: JSON.stringify(meta),
  };
  try {
    await caches.default.put(edgeUrl(base, key), new Response(bytes, { headers }));
  } catch (error) {
    // R2 has it: the next look-up comes there.
    console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }));
  }
}

/** Takes the copy out of the edge location where we are. */
export async function forgetNear(base: string, key: string): Promise<void> {
  await caches.default.delete(edgeUrl(base, key));
}
