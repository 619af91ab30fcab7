/** `/v1/results/<id>`: finished images and sounds, with a key of their tenant or a signature, by the rules of HTTP. */
import { authenticate, hasCredential, mayUse } from "./auth.ts";
import { answerKey, edgeUrl, forgetNear } from "./cache.ts";
import { forgetResult } from "./db/queries.ts";
import { config, type Env } from "./env.ts";
import { ratePolicy } from "./limits.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { isSigned, signatureRefusal } from "./signature.ts";
import { type Result, resultKey, resultOf } from "./store.ts";
import { timed, type Trace } from "./trace.ts";
import { type ByteRange, isNotModified, preconditionFailed, requestedRange } from "./conditions.ts";

/** Longest life of an edge copy, seconds: a deletion reaches every location within a minute. */
const EDGE_S_MAX = 55;
const ID = /^[0-9A-Za-z]{8,64}$/;
const META = "x-portico-result";
/** Larger results are streamed from R2 without an edge copy. */
const EDGE_BYTES_MAX = 16 * 1024 * 1024;

export interface Asking {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
  id: string;
}

/** GET and HEAD. */
export async function getResult(asking: Asking): Promise<Response | Refusal> {
  const { request, trace, id } = asking;
  const reader = await timed(trace, "auth", () => readerOf(asking));
  if (isRefusal(reader)) return reader;
  const found = ID.test(id) ? await timed(trace, "cache", () => find(asking)) : null;
  if (found === null) return refuse("not_found");
  const answer = await answerWith(asking, found, reader.tenant);
  // What was opened and is not sent must be let go.
  if (found.body !== null && (isRefusal(answer) || answer.body === null || request.headers.has("range")))
    await letGo(found.body);
  return answer;
}

async function letGo(body: ReadableStream): Promise<void> {
  if (!body.locked) await body.cancel();
}

/** A result, and its bytes unless the request wants none or only a part of them. */
interface Found {
  result: Result;
  body: ReadableStream | null;
  near: boolean;
}

async function find({ request, env, ctx, base, id }: Asking): Promise<Found | null> {
  const near = await caches.default.match(edgeUrl(base, resultKey(id)));
  if (near !== undefined) {
    return { result: JSON.parse(near.headers.get(META) ?? "{}") as Result, body: near.body, near: true };
  }
  if (request.method === "HEAD" || request.headers.has("range")) {
    const head = await env.RESULTS.head(resultKey(id));
    return head === null ? null : { result: resultOf(id, head), body: null, near: false };
  }
  const object = await env.RESULTS.get(resultKey(id));
  if (object === null) return null;
  const result = resultOf(id, object);
  if (object.size > EDGE_BYTES_MAX) return { result, body: object.body, near: false };
  const bytes = await object.arrayBuffer();
  ctx.waitUntil(putNear(base, result, bytes, Date.now()));
  return { result, body: new Response(bytes).body, near: false };
}

async function answerWith(
  asking: Asking,
  { result, body, near }: Found,
  tenant: string | null,
): Promise<Response | Refusal> {
  const { request, env, trace, id } = asking;
  const now = Date.now();
  if (tenant !== null && tenant !== result.tenant) return refuse("not_found");
  if (result.expiresAt <= now) return refuse("expired_result");
  trace.headers.set(
    "cache-status",
    near ? `portico; hit; ttl=${Math.floor((result.expiresAt - now) / 1000)}` : "portico; fwd=miss",
  );
  const etag = `"${result.sha256}"`;
  const headers = resultHeaders(result, new URL(request.url).searchParams.get("download"), now);
  if (preconditionFailed(request.headers, etag, result.createdAt)) {
    return new Response(null, { status: 412, headers: { etag, "cache-control": "no-store" } });
  }
  if (isNotModified(request.headers, etag, result.createdAt)) return new Response(null, { status: 304, headers });
  const range = requestedRange(request, etag, result.bytes);
  if (range === "unsatisfiable") {
    return refuse("range_not_satisfiable", {
      facts: { bytes: result.bytes },
      headers: { "content-range": `bytes */${result.bytes}` },
    });
  }
  describe(headers, result, range);
  const status = range === null ? 200 : 206;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  if (range === null && body !== null && !request.headers.has("range")) return new Response(body, { status, headers });
  const part = await env.RESULTS.get(resultKey(id), range === null ? {} : { range });
  return part === null ? refuse("not_found") : new Response(part.body, { status, headers });
}

async function putNear(base: string, result: Result, bytes: ArrayBuffer, now: number): Promise<void> {
  const life = Math.min(EDGE_S_MAX, Math.floor((result.expiresAt - now) / 1000));
  if (life < 1) return;
  const headers = {
    "cache-control": `max-age=${life}`,
    "content-length": String(bytes.byteLength),
    [META]: JSON.stringify(result),
  };
  try {
    await caches.default.put(edgeUrl(base, resultKey(result.id)), new Response(bytes, { headers }));
  } catch (error) {
    console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }));
  }
}

/** With a key present the key decides; without one the signature has to. A signature reads for any tenant. */
async function readerOf({ request, env, trace, id }: Asking): Promise<{ tenant: string | null } | Refusal> {
  if (hasCredential(request)) {
    const caller = await authenticate(request, env);
    if (isRefusal(caller)) return caller;
    trace.headers.set("ratelimit-policy", ratePolicy(caller));
    return mayUse(caller, "results") ?? { tenant: caller.tenant };
  }
  const query = new URL(request.url).searchParams;
  if (!isSigned(query)) return refuse("missing");
  return (await signatureRefusal(config(env), id, query, Date.now())) ?? { tenant: null };
}

function resultHeaders(meta: Result, download: string | null, now: number): Headers {
  const life = Math.max(0, Math.floor((meta.expiresAt - now) / 1000));
  const scope = meta.visibility === "public" ? "public" : "private";
  const headers = new Headers({
    "content-type": meta.contentType,
    etag: `"${meta.sha256}"`,
    "repr-digest": `sha-256=:${Uint8Array.fromHex(meta.sha256).toBase64()}:`,
    "last-modified": new Date(meta.createdAt).toUTCString(),
    "accept-ranges": "bytes",
    "cache-control": `${scope}, max-age=${life}, immutable`,
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
  });
  if (download !== null) headers.set("content-disposition", disposition(download));
  return headers;
}

function describe(headers: Headers, meta: Result, range: ByteRange | null): void {
  headers.set("content-length", String(range === null ? meta.bytes : range.length));
  if (range !== null)
    headers.set("content-range", `bytes ${range.offset}-${range.offset + range.length - 1}/${meta.bytes}`);
}

/** What a name must not be shown or split by: control characters, and those that turn its direction. */
const UNFIT = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** RFC 6266: a plain name for old clients, RFC 8187 for the rest; never a path. */
function disposition(name: string): string {
  const base = name.split(/[/\\]/).at(-1)?.replace(UNFIT, "_").slice(0, 200) || "result";
  const plain = base.replace(/[^\w. -]/g, "_");
  const encodedName = encodeURIComponent(base.toWellFormed()).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encodedName}`;
}

/** DELETE: out of R2, D1 and this edge location at once, with the tenant's answers that contain it. */
export async function deleteResult({ request, env, trace, base, id }: Asking): Promise<Response | Refusal> {
  const caller = await timed(trace, "auth", () => authenticate(request, env));
  if (isRefusal(caller)) return caller;
  trace.headers.set("ratelimit-policy", ratePolicy(caller));
  const denied = mayUse(caller, "infer");
  if (denied !== null) return denied;
  const object = ID.test(id) ? await env.RESULTS.head(resultKey(id)) : null;
  const result = object === null ? null : resultOf(id, object);
  if (result === null || result.tenant !== caller.tenant) return refuse("not_found");
  const answers = await answersOf(env, result);
  await env.RESULTS.delete([resultKey(id), ...answers]);
  await forgetResult(env, result.tenant, id, answers);
  await Promise.all([resultKey(id), ...answers].map((key) => forgetNear(base, key)));
  return new Response(null, { status: 204 });
}

/** The stored answers of this tenant that hold the result: its own, and a shared one that it made. */
async function answersOf(env: Env, { id, tenant, answer }: Result): Promise<string[]> {
  if (answer === "") return [];
  const shared = answerKey("shared", answer.slice(answer.lastIndexOf("/") + 1));
  const [own, common] = await Promise.all([env.RESULTS.head(answer), env.RESULTS.head(shared)]);
  const keys: string[] = [];
  // An answer that was replaced since holds other results.
  if (own?.customMetadata?.["results"]?.split(",").includes(id)) keys.push(answer);
  if (common?.customMetadata?.["maker"] === tenant) keys.push(shared);
  return keys;
}
