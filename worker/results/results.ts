/**
 * `/v1/results/<id>`: serves and deletes finished images and sounds, with a key of their tenant or a signature,
 * following HTTP semantics.
 */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { type Caller, hasCredential, mayCall } from "../auth.ts";
import { answerKey } from "./stored-answer.ts";
import { callerWith } from "../caller/caller.ts";
import { isResultId, visibilityOf } from "./delivery.ts";
import { findEdgeCopy, readThroughEdge } from "./edge.ts";
import { config, type Env } from "../env.ts";
import { settled } from "./pending.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { removeNow } from "./removal.ts";
import { isSigned, signatureRefusal } from "./signature.ts";
import { recorded } from "./rows.ts";
import { isLaid, type Result, resultKey, resultOf } from "./result.ts";
import { timed } from "../trace.ts";
import type { CallContext } from "../call-context.ts";
import { transformed, type Variant, variantEtag, variantOf } from "./variant.ts";
import { inWindows, WINDOW_BYTES } from "./windows.ts";
import { type ByteRange, changeForbidden, isNotModified, preconditionFailed, requestedRange } from "./conditions.ts";

/** When to look for a result, ms: one promised a moment ago may still be on its way to R2 from elsewhere. */
const LOOKS_AT_MS = [0, 100, 400];
/**
 * A miss is reported only after this time, ms. Otherwise timing would reveal another tenant's result, which is found
 * sooner than none.
 */
const NOTHING_MS = 600;
/** By this age of a result, ms, everything stored along with it has been written. */
const SETTLED_MS = 10_000;

export interface Asking extends CallContext {
  id: string;
}

/** Handles GET and HEAD. */
export async function getResult(asking: Asking): Promise<Response | Refusal> {
  const { request, env, trace, id } = asking;
  const query = new URL(request.url).searchParams;
  const reader = await readerOf(asking, query);
  if (isRefusal(reader)) return reader;
  const variant = variantOf(query, env);
  if (isRefusal(variant)) return variant;
  const found = isResultId(id) ? await timed(trace, "cache", () => find(asking, reader)) : null;
  if (found === null) return refuse("not_found");
  const denied = deniedTo(reader, found.result);
  const answer = denied ?? (await answerWith(asking, found, variant, query.get("download")));
  // An opened body that is not sent must be canceled.
  if (found.body !== null && (isRefusal(answer) || answer.body === null || request.headers.has("range")))
    await letGo(found.body);
  return answer;
}

async function letGo(body: ReadableStream): Promise<void> {
  if (!body.locked) await body.cancel();
}

/** A result, and its bytes unless the request needs none or only a range. */
interface Found {
  result: Result;
  body: ReadableStream | null;
  /** When this edge location's copy was made; null: read from R2. */
  copiedAt: number | null;
}

/** The caller whose key it is, the holder of a valid signature, or an anonymous reader. */
type Reader = Caller | "signed" | "anybody";

/** A key limited to some services reads only their results. Other results of its tenant get 403, not 404. */
function deniedTo(reader: Reader, { tenant, service }: Result): Refusal | null {
  return typeof reader === "string" || reader.tenant !== tenant ? null : mayCall(reader, service);
}

/** Returns null when the result does not exist or may not be read; both take the same time. */
async function find(asking: Asking, reader: Reader): Promise<Found | null> {
  await settled(resultKey(asking.id));
  const look = async (): Promise<Found | null> => {
    const found = await withTimeout(findNow(asking));
    if (found !== null && mayRead(reader, found.result, Date.now())) return found;
    await found?.body?.cancel();
    return null;
  };
  // Anonymous readers get one look, without retries.
  return reader === "anybody" ? look() : sought(look);
}

/** Anonymous readers and other tenants are not told that a public result has expired. */
function mayRead(reader: Reader, { id, tenant, expiresAt }: Result, now: number): boolean {
  if (reader === "signed") return true;
  if (reader !== "anybody" && reader.tenant === tenant) return true;
  return visibilityOf(id) === "public" && expiresAt > now;
}

/** Looks at once and again after short pauses; reports a miss only after NOTHING_MS. */
async function sought<T>(look: () => Promise<T | null>): Promise<T | null> {
  const from = Date.now();
  const until = (ms: number) => scheduler.wait(Math.max(0, from + ms - Date.now()));
  for (const at of LOOKS_AT_MS) {
    if (at > 0) await until(at);
    const found = await look();
    if (found !== null) return found;
  }
  await until(NOTHING_MS);
  return null;
}

async function findNow({ request, env, ctx, base, id }: Asking): Promise<Found | null> {
  const near = await findEdgeCopy<Result>(base, resultKey(id));
  if (near !== null) return { result: near.beside, body: near.body, copiedAt: near.copiedAt };
  if (request.method === "HEAD" || request.headers.has("range") || isLaid(id)) {
    const head = await env.RESULTS.head(resultKey(id));
    const result = head === null ? null : await resultOf(env, id, head);
    return result === null ? null : { result, body: null, copiedAt: null };
  }
  const object = await env.RESULTS.get(resultKey(id));
  if (object === null) return null;
  const result = await resultOf(env, id, object);
  if (result === null) {
    await object.body.cancel();
    return null;
  }
  const place = { base, bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const body = await readThroughEdge(place, object, result);
  return { result, body, copiedAt: null };
}

async function answerWith(
  asking: Asking,
  found: Found,
  variant: Variant | null,
  download: string | null,
): Promise<Response | Refusal> {
  const { result, body, copiedAt } = found;
  const { request, env, trace, id } = asking;
  const now = Date.now();
  if (result.expiresAt <= now) return refuse("expired_result");
  trace.headers.set(
    "cache-status",
    copiedAt === null ? "portico; fwd=miss" : `portico; hit; ttl=${Math.floor((result.expiresAt - now) / 1000)}`,
  );
  const etag = variant === null ? `"${result.sha256}"` : variantEtag(result.sha256, variant);
  const headers = resultHeaders(result, etag, download, now);
  if (copiedAt !== null) headers.set("age", String(Math.max(0, Math.floor((now - copiedAt) / 1000))));
  if (preconditionFailed(request.headers, etag, result.createdAt)) return preconditionAnswer(etag);
  if (isNotModified(request.headers, etag, result.createdAt)) return new Response(null, { status: 304, headers });
  if (variant !== null) {
    const open = async () => body ?? (await withTimeout(env.RESULTS.get(resultKey(id))))?.body ?? null;
    return transformed(env, request.method, variant, headers, open);
  }
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
  const span = range ?? { offset: 0, length: result.bytes };
  if (span.length > WINDOW_BYTES) return new Response(inWindows(env.RESULTS, resultKey(id), span), { status, headers });
  const part = await withTimeout(env.RESULTS.get(resultKey(id), range === null ? {} : { range }));
  return part === null ? refuse("not_found") : new Response(part.body, { status, headers });
}

function preconditionAnswer(etag: string): Response {
  return new Response(null, { status: 412, headers: { etag, "cache-control": "no-store" } });
}

/** A key decides if there is one; otherwise the signature decides, unless the result is public. */
async function readerOf(asking: Asking, query: URLSearchParams): Promise<Reader | Refusal> {
  const { request, env, trace, id } = asking;
  if (hasCredential(request)) {
    return callerWith("results", asking);
  }
  if (!isSigned(query)) return visibilityOf(id) === "public" ? "anybody" : refuse("missing");
  const refused = await timed(trace, "auth", () => signatureRefusal(config(env), id, query, Date.now()));
  if (refused !== null) return refused;
  return visibilityOf(id) === "private" ? refuse("not_found") : "signed";
}

function resultHeaders(meta: Result, etag: string, download: string | null, now: number): Headers {
  const life = Math.max(0, Math.floor((meta.expiresAt - now) / 1000));
  const scope = visibilityOf(meta.id) === "public" ? "public" : "private";
  const headers = new Headers({
    "content-type": meta.contentType,
    etag,
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

/** Characters that could disguise or split a file name: control characters and bidirectional overrides. */
const UNFIT = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** A name of only dots and invisible characters: not usable as a file name. */
const BLANK = /^[\s.\p{Cf}]*$/u;

/** RFC 6266: a plain name for old clients and RFC 8187 encoding for the rest; never a path. */
function disposition(name: string): string {
  const last = name.split(/[/\\]/).at(-1)?.replace(UNFIT, "_").slice(0, 200) ?? "";
  const base = BLANK.test(last) ? "result" : last;
  const plain = base.replace(/[^\w. -]/g, "_");
  const encodedName = encodeURIComponent(base.toWellFormed()).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encodedName}`;
}

/** DELETE: removes the result at once from R2, D1 and this edge location, with the tenant's answers that contain it. */
export async function deleteResult(asking: Asking): Promise<Response | Refusal> {
  const { request, env, base, id } = asking;
  const caller = await callerWith("infer", asking);
  if (isRefusal(caller)) return caller;
  await settled(resultKey(id));
  const result = isResultId(id) ? await sought(() => withTimeout(ownResult(env, caller.tenant, id))) : null;
  if (result === null) return refuse("not_found");
  const denied = deniedTo(caller, result);
  if (denied !== null) return denied;
  const etag = `"${result.sha256}"`;
  if (changeForbidden(request.headers, etag, result.createdAt)) return preconditionAnswer(etag);
  const answers = await withTimeout(answersOf(env, result, Date.now()));
  await recorded();
  await removeNow({ env, base }, result.tenant, [id], answers);
  return new Response(null, { status: 204 });
}

async function ownResult(env: Env, tenant: string, id: string): Promise<Result | null> {
  const object = await env.RESULTS.head(resultKey(id));
  const result = object === null ? null : await resultOf(env, id, object);
  return result?.tenant === tenant ? result : null;
}

/** This tenant's stored answers that contain the result: its own, and a shared one that it made. */
async function answersOf(env: Env, { id, tenant, answer, createdAt }: Result, now: number): Promise<string[]> {
  if (answer === "") return [];
  const shared = answerKey("shared", answer.slice(answer.lastIndexOf("/") + 1));
  const look = (): Promise<R2Object | null> => env.RESULTS.head(answer);
  // The answer is written at the same time as the result. One that arrived after the deletion would bring the bytes
  // back.
  const isFresh = now - createdAt < SETTLED_MS;
  const [own, common] = await Promise.all([isFresh ? sought(look) : look(), env.RESULTS.head(shared)]);
  const keys: string[] = [];
  // An answer that has been replaced since contains other results.
  if (own?.customMetadata?.["results"]?.split(",").includes(id)) keys.push(answer);
  if (common?.customMetadata?.["maker"] === tenant) keys.push(shared);
  return keys;
}
