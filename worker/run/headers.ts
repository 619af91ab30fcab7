/**
 * Filters headers in both directions: which ones reach an origin, and which of the origin's reach the caller. Both
 * sides are treated as hostile.
 */
import { addAccess } from "../../durable-objects/card-protocol.ts";
import type { Ask } from "../ask.ts";
import type { Call, OriginTarget } from "../origin.ts";

/**
 * Never sent to an origin: credentials, hop-by-hop headers (RFC 9110 7.6.1), headers that proxies vouch for, overrides
 * of the method, path or host that was checked, and headers meant for us.
 */
const NOT_SENT =
  /^(authorization|x-api-key|cookie|host|content-length|accept-encoding|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|x-http-method|x-http-method-override|x-method-override|x-original-host|x-original-uri|x-original-url|x-rewrite-url|x-host|cf-.*|cdn-loop|x-request-id|x-timeout-s|prefer|idempotency-key|x-result-.*|x-portico-.*|cache-control|pragma|if-.*|range|x-stainless-.*|x-fal-.*|origin|referer|sec-.*)$/;

/** CGI-style servers (RFC 3875 4.1.18) cannot distinguish `x_forwarded_for` from `x-forwarded-for`. */
function isSent(name: string): boolean {
  return !NOT_SENT.test(name.replaceAll("_", "-"));
}

/** A caller's headers without those that must not reach an origin. */
export function forwardable(headers: Headers): [name: string, value: string][] {
  const hop = ofOneHop(headers);
  return [...headers].filter(([name]) => isSent(name) && !hop.has(name));
}

/** Headers named in `Connection` apply to one hop only (RFC 9110 7.6.1). */
function ofOneHop(headers: Headers): Set<string> {
  const names = (headers.get("connection") ?? "").toLowerCase().split(",");
  return new Set(names.map((name) => name.trim()));
}

/** The headers sent to an origin. */
export function originHeaders(ask: Ask, route: OriginTarget, call: Call): Headers {
  const headers = new Headers();
  if (!call.cacheable) for (const [name, value] of forwardable(ask.headers)) headers.append(name, value);
  const contentType = ask.headers.get("content-type");
  if (contentType !== null && ask.body.kind !== "none") headers.set("content-type", contentType);
  if (!headers.has("accept")) headers.set("accept", "*/*");
  // Answers are checked and stored unencoded.
  headers.set("accept-encoding", "identity");
  headers.set("x-request-id", call.requestId);
  if (call.number !== null) headers.set("x-portico-lease", String(call.number));
  if (call.clientAddress !== null) headers.set("x-forwarded-for", call.clientAddress);
  const { host, protocol } = new URL(call.base);
  headers.set("x-forwarded-host", host);
  headers.set("x-forwarded-proto", protocol.slice(0, -1));
  addAccess(headers, route.transport, route.access);
  return headers;
}

/** Not passed on from an origin: hop-by-hop headers, headers that describe its server, and headers that we set. */
const NOT_HANDED_ON =
  /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|set-cookie|server|via|x-powered-by|alt-svc|nel|report-to|reporting-endpoints|strict-transport-security|access-control-.*|cf-.*|x-forwarded-.*|content-length|content-encoding|cache-control|pragma|expires|age|etag|last-modified|accept-ranges|link|location|refresh|date|x-request-id|x-client-request-id|x-portico-.*|server-timing|cache-status|ratelimit.*|x-ratelimit-.*|retry-after|content-security-policy.*|x-frame-options|clear-site-data|www-authenticate|authentication-info|vary)$/;

/** Directives for caches between us and the caller; some take precedence over our `no-store` (RFC 9213 2.2). */
const CACHE_CONTROL = /^((.*-)?cdn-cache-control|surrogate-control|surrogate-key|cache-tag|x-accel-.*)$/;

/** Headers that only we may set, and headers that would let an origin's page act for this host. */
const OURS = /^(idempotent-replayed|preference-applied|x-should-retry|x-fal-.*|service-worker-allowed|set-cookie2)$/;

/** Digests of the encoded bytes (RFC 9530, RFC 3230, RFC 1864). */
const DIGEST = /^(repr-digest|content-digest|digest|content-md5)$/;

/** The origin's headers that the caller gets. */
export function responseHeaders(response: Response, ask: Ask): Headers {
  const headers = new Headers();
  const hop = ofOneHop(response.headers);
  const isKept = (name: string): boolean =>
    ![NOT_HANDED_ON, CACHE_CONTROL, OURS].some((names) => names.test(name)) &&
    !hop.has(name) &&
    isInPlace(name, response, ask);
  for (const [name, value] of response.headers) if (isKept(name)) headers.append(name, value);
  // An origin's own error says when to retry; for any other answer we decide that.
  const retryAfter = response.status >= 400 ? response.headers.get("retry-after") : null;
  if (retryAfter !== null) headers.set("retry-after", retryAfter);
  // CosyVoice's own routes send raw samples without a content type.
  if (!headers.has("content-type") && ask.service.config.kind === "tts" && response.ok)
    headers.set("content-type", "audio/pcm");
  return sandboxed(headers);
}

/** Whether a header that only some answers may carry applies to this one. */
function isInPlace(name: string, { status, headers }: Response, { method }: Ask): boolean {
  if (name === "allow") return status === 405 || method === "OPTIONS";
  if (name === "content-range") return status === 206 || status === 416;
  // The runtime has undone the encoding.
  return !(DIGEST.test(name) && headers.has("content-encoding"));
}

/** Whether the origin forbids caches to store its answer (RFC 9111 3) or to reuse it (`Vary: *`, RFC 9111 4.1). */
export function forbidsStoring({ headers }: Response): boolean {
  const directives = (headers.get("cache-control") ?? "")
    .split(",")
    .map((one) => one.split("=")[0]?.trim().toLowerCase());
  const vary = (headers.get("vary") ?? "").split(",").map((one) => one.trim());
  return directives.includes("no-store") || directives.includes("private") || vary.includes("*");
}

/** Prevents an origin's page from acting as a page of this host. */
export function sandboxed(headers: Headers): Headers {
  headers.set("x-content-type-options", "nosniff");
  headers.set("content-security-policy", "sandbox");
  return headers;
}
