/** Stage 3: have we got it. Two layers: the edge location's copies, then R2 under `<scope>/answers/<fingerprint>`. */
import { answered } from "../durable-objects/answer-protocol.ts";
import { findNear, readNear } from "./results/edge.ts";
import { settled } from "./results/pending.ts";
import type { Running } from "./run.ts";
import { inWindows } from "./results/windows.ts";

/** Longest that a look takes, ms: running anew may be sooner. */
const LOOK_MS_MAX = 5_000;

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
  /** It is kept so long for who made it, and found again as his alone after `expiresAt`. */
  keptUntil: string;
  /** The tenant whose request made it. */
  maker: string;
  service: string;
  /** The service's `model_version`, if it had one. */
  model?: string;
  /** The origin's headers that callers get, as JSON pairs. */
  headers: string;
  /** R2 key of the result whose bytes are the answer's, where it is too large to be kept twice; else it holds its own. */
  bulk?: string;
}

export const answerKey = (scope: string, fingerprint: string) => `${scope}/answers/${fingerprint}`;

/**
 * The stored answer, if there is one that is fresh; `expired` when the one there is over. `evenExpired`: for who made it,
 * and is to get the same again for as long as it is kept. Throws Silent when the store does not answer in time.
 */
export async function lookUp(
  running: Pick<Running, "env" | "base" | "ctx">,
  key: string,
  now: number,
  evenExpired = false,
): Promise<Stored | "expired" | null> {
  await settled(key);
  return answered(look(running, key, now, evenExpired), LOOK_MS_MAX);
}

async function look(
  { env, base, ctx }: Pick<Running, "env" | "base" | "ctx">,
  key: string,
  now: number,
  evenExpired: boolean,
): Promise<Stored | "expired" | null> {
  const near = await findNear<AnswerMeta>(base, key);
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
    // A result that is gone takes its answer along.
    if (bulk === null) return "expired";
    return stored(meta, inWindows(env.RESULTS, bulk.key, { offset: 0, length: bulk.size }), bulk.size);
  }
  const place = { base, bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  return stored(meta, await readNear(place, object, meta), object.size);
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
