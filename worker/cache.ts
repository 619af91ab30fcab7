/** Stage 3: the result cache: first the edge location's copies, then R2 under `<scope>/answers/<fingerprint>`. */
import { withTimeout } from "../durable-objects/timeout.ts";
import { findEdgeCopy, readThroughEdge } from "./results/edge.ts";
import { settled } from "./results/pending.ts";
import type { AnswerMeta } from "./results/stored-answer.ts";
import type { Running } from "./run.ts";
import { inWindows } from "./results/windows.ts";

/** Longest time a lookup may take, ms; running the request again may be faster. */
const LOOK_MS_MAX = 5_000;

export interface Stored {
  status: number;
  headers: Headers;
  body: ReadableStream | ArrayBuffer | null;
  bytes: number;
  /** Ids of the results in this answer. */
  results: string[];
  storedAt: number;
  expiresAt: number;
}

/**
 * Returns the stored answer when it is fresh, `expired` when it has expired, null when there is none. With
 * `evenExpired`, an expired answer is returned too: its maker can get it for as long as it is kept. Throws CallTimeout
 * when the store does not respond in time.
 */
export async function lookUp(
  running: Pick<Running, "env" | "base" | "ctx">,
  key: string,
  now: number,
  evenExpired = false,
): Promise<Stored | "expired" | null> {
  await settled(key);
  return withTimeout(look(running, key, now, evenExpired), LOOK_MS_MAX);
}

async function look(
  { env, base, ctx }: Pick<Running, "env" | "base" | "ctx">,
  key: string,
  now: number,
  evenExpired: boolean,
): Promise<Stored | "expired" | null> {
  const near = await findEdgeCopy<AnswerMeta>(base, key);
  if (near !== null && Number(near.beside.expiresAt) > now) return stored(near.beside, near.body, near.bytes);
  await near?.body?.cancel();
  const object = await env.RESULTS.get(key);
  if (object === null) return null;
  const meta = object.customMetadata as unknown as AnswerMeta;
  if (Number(meta.expiresAt) <= now && !evenExpired) {
    await object.body.cancel();
    return "expired";
  }
  if (meta.bulk !== undefined) {
    await object.body.cancel();
    const bulk = await env.RESULTS.head(meta.bulk);
    // Without its result, the answer that points to it is gone too.
    if (bulk === null) return "expired";
    return stored(meta, inWindows(env.RESULTS, bulk.key, { offset: 0, length: bulk.size }), bulk.size);
  }
  const place = { base, bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  return stored(meta, await readThroughEdge(place, object, meta), object.size);
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
