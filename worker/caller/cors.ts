/**
 * Decides which pages may read our answers in a browser (CORS, the Fetch standard 3.3). Keys travel in headers that no
 * browser adds by itself, never in cookies, so no session is at risk; credentialed requests are never allowed.
 */

/** Paths of operators and monitors, which pages of other origins may not read. */
const NOT_FOR_PAGES = /^\/(?:admin|health|ready|cluster|metrics|autoscale|console|docs|openapi\.json)(?:\/|$)/;

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/** Headers that our callers and the dialects' official clients send. */
const SENT =
  /^(?:authorization|x-api-key|accept|accept-language|content-type|user-agent|cache-control|pragma|range|if-[a-z-]+|last-event-id|idempotency-key|prefer|x-request-id|x-timeout-s|x-result-(?:ttl|visibility)|(?:x-stainless|x-fal|openai)-[a-z0-9-]+)$/;
/** Only this much of `Access-Control-Request-Headers` is read, characters. */
const WANTED_LENGTH_MAX = 4_000;
/** How long a browser caches a preflight's answer, seconds; Chromium's maximum. */
const PREFLIGHT_S = 7_200;

export function isForPages(path: string): boolean {
  return !NOT_FOR_PAGES.test(path);
}

/** A CORS preflight; any other OPTIONS request goes to the service. */
export function isPreflight({ method, headers }: Request): boolean {
  return method === "OPTIONS" && headers.has("origin") && headers.has("access-control-request-method");
}

/** A preflight carries no key, so the answer is the same for every path and page, and needs no lookup. */
export function preflightAnswer({ headers }: Request): Response {
  const wanted = (headers.get("access-control-request-headers") ?? "").slice(0, WANTED_LENGTH_MAX).toLowerCase();
  const names = wanted.split(",").map((name) => name.trim());
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers": names.filter((name) => SENT.test(name)).join(", "),
      "access-control-max-age": String(PREFLIGHT_S),
    },
  });
}

/** Allows these pages to read an answer with all its headers. */
export function letRead(headers: Headers, pages: readonly string[], origin: string | null): void {
  const page = pages.find((each) => each === "*" || each === origin);
  // Also when the request has no Origin: a cache must not serve that answer to a page.
  if (page !== "*") headers.append("vary", "Origin");
  if (page === undefined) return;
  headers.set("access-control-expose-headers", [...headers.keys()].join(", "));
  headers.set("access-control-allow-origin", page);
}
