/** `/v1/results/<id>`: finished images and sounds, with a key of their tenant or a signature, by the rules of HTTP. */
import { authenticate, hasCredential, mayUse } from "./auth.ts";
import { answerKey, edgeUrl, forgetNear } from "./cache.ts";
import { forgetResult, resultById, type ResultRow } from "./db/queries.ts";
import { config, type Env } from "./env.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { isSigned, signatureRefusal } from "./signature.ts";
import { resultKey } from "./store.ts";
import { timed, type Trace } from "./trace.ts";
import { type ByteRange, isNotModified, preconditionFailed, requestedRange } from "./conditions.ts";

/** Longest life of an edge copy, seconds: a deletion reaches every location within a minute. */
const EDGE_S_MAX = 55;
const ID = /^[0-9A-Za-z]{8,64}$/;
const META = "x-portico-result";

type Meta = Pick<ResultRow, "id" | "tenantId" | "contentType" | "bytes" | "sha256" | "visibility" | "createdAt" | "expiresAt">;

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
  const { request, env, trace, base, id } = asking;
  const reader = await timed(trace, "auth", () => readerOf(asking));
  if (isRefusal(reader)) return reader;
  if (!ID.test(id)) return refuse("not_found");
  const now = Date.now();
  const near = await timed(trace, "cache", () => caches.default.match(edgeUrl(base, `results/${id}`)));
  const nearMeta = near === undefined ? null : (JSON.parse(near.headers.get(META) ?? "null") as Meta | null);
  const meta = nearMeta ?? (await resultById(env, id));
  if (meta === null || (reader.tenant !== null && reader.tenant !== meta.tenantId)) {
    await near?.body?.cancel();
    return refuse("not_found");
  }
  if (meta.expiresAt <= now) {
    await near?.body?.cancel();
    return refuse("expired_result");
  }
  const query = new URL(request.url).searchParams;
  const headers = resultHeaders(meta, query.get("download"), now);
  trace.headers.set("cache-status", near === undefined ? "portico; fwd=miss" : `portico; hit; ttl=${Math.floor((meta.expiresAt - now) / 1000)}`);
  const etag = `"${meta.sha256}"`;
  const answered = conditional(request, etag, meta.createdAt, headers);
  if (answered !== null) {
    await near?.body?.cancel();
    return answered;
  }
  const range = requestedRange(request, etag, meta.bytes);
  if (range === "unsatisfiable") {
    await near?.body?.cancel();
    return refuse("range_not_satisfiable", { facts: { bytes: meta.bytes }, headers: { "content-range": `bytes */${meta.bytes}` } });
  }
  return request.method === "HEAD" ? bodyless(near, headers, meta, range) : sendBody(asking, meta, headers, range, near);
}

async function bodyless(near: Response | undefined, headers: Headers, meta: Meta, range: ByteRange | null): Promise<Response> {
  await near?.body?.cancel();
  describe(headers, meta, range);
  return new Response(null, { status: range === null ? 200 : 206, headers });
}

async function sendBody(asking: Asking, meta: Meta, headers: Headers, range: ByteRange | null, near: Response | undefined): Promise<Response | Refusal> {
  const { env, base, ctx, id } = asking;
  const status = range === null ? 200 : 206;
  describe(headers, meta, range);
  if (near !== undefined && range === null) return new Response(near.body, { status, headers });
  await near?.body?.cancel();
  const key = resultKey(meta.tenantId, id);
  const object = range === null ? await env.RESULTS.get(key) : await env.RESULTS.get(key, { range });
  if (object === null) return refuse("not_found");
  if (range !== null || meta.bytes > EDGE_BYTES_MAX) return new Response(object.body, { status, headers });
  const bytes = await object.arrayBuffer();
  ctx.waitUntil(putNear(base, meta, bytes, Date.now()));
  return new Response(bytes, { status, headers });
}

/** Larger results are streamed from R2 without an edge copy. */
const EDGE_BYTES_MAX = 16 * 1024 * 1024;

async function putNear(base: string, meta: Meta, bytes: ArrayBuffer, now: number): Promise<void> {
  const life = Math.min(EDGE_S_MAX, Math.floor((meta.expiresAt - now) / 1000));
  if (life < 1) return;
  const { id, tenantId, contentType, sha256, visibility, createdAt, expiresAt } = meta;
  const kept: Meta = { id, tenantId, contentType, bytes: meta.bytes, sha256, visibility, createdAt, expiresAt };
  const headers = { "cache-control": `max-age=${life}`, "content-length": String(bytes.byteLength), [META]: JSON.stringify(kept) };
  try {
    await caches.default.put(edgeUrl(base, `results/${id}`), new Response(bytes, { headers }));
  } catch (error) {
    console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }));
  }
}

/** With a key present the key decides; without one the signature has to. A signature reads for any tenant. */
async function readerOf({ request, env, id }: Asking): Promise<{ tenant: string | null } | Refusal> {
  if (hasCredential(request)) {
    const caller = await authenticate(request, env);
    if (isRefusal(caller)) return caller;
    return mayUse(caller, "results") ?? { tenant: caller.tenant };
  }
  const query = new URL(request.url).searchParams;
  if (!isSigned(query)) return refuse("missing");
  return (await signatureRefusal(config(env), id, query, Date.now())) ?? { tenant: null };
}

function conditional(request: Request, etag: string, modifiedAt: number, headers: Headers): Response | null {
  if (preconditionFailed(request.headers, etag, modifiedAt)) return new Response(null, { status: 412, headers });
  return isNotModified(request.headers, etag, modifiedAt) ? new Response(null, { status: 304, headers }) : null;
}

function resultHeaders(meta: Meta, download: string | null, now: number): Headers {
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

function describe(headers: Headers, meta: Meta, range: ByteRange | null): void {
  headers.set("content-length", String(range === null ? meta.bytes : range.length));
  if (range !== null) headers.set("content-range", `bytes ${range.offset}-${range.offset + range.length - 1}/${meta.bytes}`);
}

/** RFC 6266: a plain name for old clients, RFC 8187 for the rest; never a path. */
function disposition(name: string): string {
  const base = name.split(/[/\\]/).at(-1)?.slice(0, 200) || "result";
  const plain = base.replace(/[^\w. -]/g, "_");
  const encodedName = encodeURIComponent(base.toWellFormed()).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return `attachment; filename="${plain}"; filename*=UTF-8''${encodedName}`;
}

/** DELETE: out of R2, D1 and this edge location at once, with the tenant's answers that contain it. */
export async function deleteResult({ request, env, trace, base, id }: Asking): Promise<Response | Refusal> {
  const caller = await timed(trace, "auth", () => authenticate(request, env));
  if (isRefusal(caller)) return caller;
  const denied = mayUse(caller, "infer");
  if (denied !== null) return denied;
  const row = ID.test(id) ? await resultById(env, id) : null;
  if (row === null || row.tenantId !== caller.tenant) return refuse("not_found");
  const answers = await answersOf(env, row);
  await env.RESULTS.delete([resultKey(row.tenantId, id), ...answers]);
  await forgetResult(env, row, answers);
  await Promise.all([`results/${id}`, ...answers].map((key) => forgetNear(base, key)));
  return new Response(null, { status: 204 });
}

/** The stored answers of this tenant that hold the result: its own, and a shared one that it made. */
async function answersOf(env: Env, row: ResultRow): Promise<string[]> {
  if (row.answerKey === null) return [];
  const fingerprint = row.answerKey.slice(row.answerKey.lastIndexOf("/") + 1);
  const shared = answerKey("shared", fingerprint);
  const [own, common] = await Promise.all([env.RESULTS.head(row.answerKey), env.RESULTS.head(shared)]);
  const keys: string[] = [];
  // An answer that was replaced since holds other results.
  if (own?.customMetadata?.["results"]?.split(",").includes(row.id)) keys.push(row.answerKey);
  if (common?.customMetadata?.["maker"] === row.tenantId) keys.push(shared);
  return keys;
}
