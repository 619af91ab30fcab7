/**
 * Stage 6: the origin call. Makes one call to one origin: decides what of the caller's request reaches it, how long it
 * may be silent, and how the head of its answer is judged. The origin is treated as hostile: redirects are not
 * followed, headers are filtered.
 */
import { connect } from "cloudflare:sockets";
import { LRUCache } from "lru-cache";
import type { AccessToken, Transport } from "../durable-objects/card-protocol.ts";
import type { Ask } from "./ask.ts";
import { isJson } from "./body/fields.ts";
import { mediaTypeOf } from "./results/media.ts";
import { detail } from "./details.ts";
import { type Reason, type Refusal, type Started, refuse } from "./refusal.ts";
import { originHeaders } from "./run/headers.ts";
import type { ReadTimeout } from "./run/read-timeout.ts";
import { unlessGone, unlessLate } from "./run/until.ts";

/** Maximum size of an answer's headers, bytes; a larger head is invalid. */
const HEADER_BYTES_MAX = 32 * 1024;
/** How much of a failed answer's body is read to find its end, and for how long. */
const FAILED_BYTES_MAX = 256 * 1024;
const FAILED_READ_MS = 2_000;
/** A refused connection fails at once. If it was lost later than this, the origin may have begun the work. */
const REFUSED_MS_MAX = 3_000;
/** Timeout of the check whether a port is open, ms. */
const DIAL_MS = 500;
/**
 * Origins inside Cloudflare's own network. The platform refuses to dial them whether or not a server is running, so
 * dialing says nothing.
 */
const proxied = new LRUCache<string, true>({ max: 1_000 });

export interface OriginTarget {
  card: string;
  origin: string;
  transport: Transport;
  /** Cloudflare Access service token; sent only over `tunnel`. */
  access: AccessToken | null;
}

export interface Call {
  requestId: string;
  /** Lease number, a fencing token: an origin can refuse work with a lower one. Null without a slot. */
  number: number | null;
  clientAddress: string | null;
  /** Our public address. */
  base: string;
  /** Only the headers that the cache key depends on may reach the origin. */
  cacheable: boolean;
  /** Longest silence before or between bytes, ms. */
  readMs: number;
}

/** The card failed this request. */
export interface Failure {
  failed: true;
  reason: Reason;
  facts: Refusal["facts"];
  /** The invalid field, when the caller caused the failure. */
  param: string | null;
  started: Started;
  /** No work for this request can still be running at the origin. */
  clean: boolean;
}

export function isFailure(value: unknown): value is Failure {
  return typeof value === "object" && value !== null && (value as { failed?: unknown }).failed === true;
}

export function failure(reason: Reason, started: Started, clean: boolean, facts: Refusal["facts"] = {}): Failure {
  return { failed: true, reason, facts, param: null, started, clean };
}

export function asRefusal({ reason, facts, param, started }: Failure): Refusal {
  return refuse(reason, { facts, param, started });
}

/** Sends the ask and waits for the head of the answer. */
export async function callOrigin(
  ask: Ask,
  route: OriginTarget,
  call: Call,
  controller: AbortController,
  readTimeout: ReadTimeout,
): Promise<Response | Failure> {
  const sentAt = Date.now();
  const { body } = ask;
  const { signal } = controller;
  const sending =
    body.kind === "spooled"
      ? await unlessGone(
          body.send(() => readTimeout.reset()),
          signal,
        )
      : null;
  if (body.kind === "spooled" && sending === null)
    return failure(signal.aborted && !readTimeout.expired ? "client_gone" : "internal", "no", true);
  const content = body.kind === "bytes" ? body.bytes : body.kind === "stream" ? body.stream : (sending?.stream ?? null);
  const request = requestTo(ask, route, call, content, signal);
  if (request === null) {
    sending?.stop();
    return failure("internal", "no", true);
  }
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    sending?.stop();
    // An origin cannot begin work on a body that it did not get completely.
    if (sending?.broken()) return failure("internal", "no", true);
    if (readTimeout.expired) return failure("origin_timeout", "unknown", false, { read_s: call.readMs / 1000 });
    if (signal.aborted) return failure("client_gone", "unknown", false);
    return lost(route, call.requestId, Date.now() - sentAt, error);
  }
  if (sending?.broken()) {
    await response.body?.cancel();
    return failure("internal", "no", true);
  }
  readTimeout.reset();
  if (response.headers.has("cf-ray")) proxied.set(route.origin, true);
  const failed = judgeHead(response, ask, route.transport);
  if (failed === null) return response;
  const ended = await readToEnd(response, readTimeout);
  return { ...failed, clean: ended && !(failed.started === "unknown" && isRelayed(response, route.transport)) };
}

/** Whether an intermediary reports the failure: the end of its answer does not mean that the origin's work ended. */
function isRelayed({ status, headers }: Response, transport: Transport): boolean {
  const isGateways = transport === "tunnel" && (status === 502 || status === 504) && isHtml(mediaTypeOf(headers));
  return status in EDGE_STATUS || isGateways;
}

function isHtml(mediaType: string | null): boolean {
  return mediaType === "text/html" || mediaType === "application/xhtml+xml";
}

/** Returns null when the ask cannot be expressed in HTTP. Nothing was sent, so this is not the card's failure. */
function requestTo(
  ask: Ask,
  route: OriginTarget,
  call: Call,
  body: BodyInit | null,
  signal: AbortSignal,
): Request | null {
  const { method } = ask;
  const headers = originHeaders(ask, route, call);
  try {
    return new Request(originUrl(route.origin, ask), { method, headers, body, redirect: "manual", signal });
  } catch (error) {
    console.error(JSON.stringify({ event: "request_not_sendable", request: call.requestId, error: String(error) }));
    return null;
  }
}

function originUrl(origin: string, ask: Ask): string {
  return origin.replace(/\/+$/, "") + ask.path + ask.query;
}

/** Statuses that mean the card failed, whatever the request was. */
const FAILED_STATUS = new Set([500, 502, 503, 504]);

/**
 * Statuses that Cloudflare's edge sends in place of an origin behind a tunnel or in its network. After 524 (two minutes
 * without a byte) the GPU keeps working; with 521, 523, 525 and 526 the request was never sent.
 */
const EDGE_STATUS: Readonly<Record<number, readonly [Reason, Started]>> = {
  520: ["origin_reset", "unknown"],
  521: ["origin_refused", "no"],
  522: ["origin_reset", "unknown"],
  523: ["origin_refused", "no"],
  524: ["origin_timeout", "unknown"],
  525: ["origin_refused", "no"],
  526: ["origin_refused", "no"],
};
/** Silence after which the edge answers 524, seconds. */
const EDGE_READ_S = 120;

/**
 * Returns the failure that an answer's head shows, or null. Checks: (1) headers too large, or no final status; (2) the
 * tunnel is down, or the edge answers in the origin's place; (3) over a tunnel, the access policy answered instead of
 * the origin; (4) a redirect; (5) a failure status; (6) an HTML page where the origin's API never sends one.
 */
function judgeHead(response: Response, ask: Ask, transport: Transport): Omit<Failure, "clean"> | null {
  const { status, headers } = response;
  const mediaType = mediaTypeOf(headers);
  const html = isHtml(mediaType);
  let bytes = 0;
  for (const [name, value] of headers) bytes += name.length + value.length + 4;
  // (1)
  if (bytes > HEADER_BYTES_MAX) return no("origin_invalid", "yes", detail("headers_too_large"));
  if (status < 200) return no("origin_invalid", "unknown", detail("not_final", { status }));
  // (2)
  if (status === 530) return no("tunnel_down", "no");
  const [reason, started] = EDGE_STATUS[status] ?? [];
  if (reason !== undefined && started !== undefined) return no(reason, started, { read_s: EDGE_READ_S });
  const redirect = status >= 300 && status < 400 && status !== 304;
  // (3)
  if (transport === "tunnel") {
    const denied = (status === 401 || status === 403) && !isJson(mediaType);
    const page = html && status < 400 && ask.service.config.kind !== "http";
    if (redirect || denied || page) return no("origin_config", "no");
  }
  // (4)
  if (redirect) return no("origin_invalid", "unknown", detail("redirect"));
  // (5)
  if (FAILED_STATUS.has(status)) return no("origin_status", "unknown", { status });
  // (6)
  if (html && status < 300 && ask.as === "run" && ask.service.config.kind !== "http") {
    return no("origin_invalid", "unknown", detail("html"));
  }
  return null;
}

function no(reason: Reason, started: Started, facts: Refusal["facts"] = {}): Omit<Failure, "clean"> {
  return { failed: true, reason, facts, param: null, started };
}

/** Reads a failed answer to its end, so that its slot is known to be free. False when the end was not reached. */
async function readToEnd(response: Response, readTimeout: ReadTimeout): Promise<boolean> {
  if (response.body === null) return true;
  const reader = response.body.getReader();
  const until = Date.now() + FAILED_READ_MS;
  try {
    for (let bytes = 0; bytes <= FAILED_BYTES_MAX;) {
      const read = await unlessLate(reader.read(), until);
      if (read === null) break;
      if (read.done) return true;
      readTimeout.reset();
      bytes += read.value.byteLength;
    }
    await reader.cancel();
    return false;
  } catch {
    return false;
  }
}

/**
 * Classifies a connection lost before an answer. The platform does not say whether it was ever established. If the port
 * is closed right after sending, it was closed at sending; later, the server may have died while its GPU keeps working.
 */
async function lost(route: OriginTarget, request: string, afterMs: number, error: unknown): Promise<Failure> {
  const early = afterMs <= REFUSED_MS_MAX;
  const isDialable = route.transport === "direct" && !proxied.has(route.origin);
  if (early && isDialable && (await isShut(new URL(route.origin)))) return failure("origin_refused", "no", true);
  console.warn(JSON.stringify({ event: "origin_lost", card: route.card, request, error: String(error).slice(0, 200) }));
  return failure("origin_reset", "unknown", false);
}

async function isShut(url: URL): Promise<boolean> {
  const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  const socket = connect({ hostname: url.hostname, port });
  try {
    await unlessLate(socket.opened, Date.now() + DIAL_MS);
    return false;
  } catch {
    return true;
  } finally {
    socket.close().catch(() => undefined);
  }
}
