/**
 * Which pages may read our answers in a browser (CORS, the Fetch standard 3.3). Keys travel in headers that no browser
 * adds by itself, never in cookies, so nobody's session is at stake, and requests with cookies are never allowed.
 */

/** Paths of operators and their monitors: pages of other origins have no business there. */
const NOT_FOR_PAGES = /^\/(?:admin|health|ready|cluster|metrics|autoscale|console|docs|openapi\.json)(?:\/|$)/;

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/** Headers that our callers and the official clients of the dialects send. */
const SENT =
  /^(?:authorization|x-api-key|accept|accept-language|content-type|user-agent|cache-control|pragma|range|if-[a-z-]+|last-event-id|idempotency-key|prefer|x-request-id|x-timeout-s|x-result-(?:ttl|visibility)|(?:x-stainless|x-fal|openai)-[a-z0-9-]+)$/;
/** What stands beyond this in the list of headers that a page wants to send is not read, characters. */
const WANTED_LENGTH_MAX = 4_000;
/** How long a browser keeps a preflight's answer, seconds: Chromium takes no more. */
const PREFLIGHT_S = 7_200;

export function isForPages(path: string): boolean {
  return !NOT_FOR_PAGES.test(path);
}

/** A browser's question before a page's own request; any other OPTIONS is the service's. */
export function isPreflight({ method, headers }: Request): boolean {
  return method === "OPTIONS" && headers.has("origin") && headers.has("access-control-request-method");
}

/** Carries no key, so it says the same of every path and to every page, and nothing is looked up for it. */
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

/** Lets these pages read an answer with all its headers. */
export function letRead(headers: Headers, pages: readonly string[], origin: string | null): void {
  const page = pages.find((each) => each === "*" || each === origin);
  // Also without an origin: a cache that keeps the answer must not give it to a page.
  if (page !== "*") headers.append("vary", "Origin");
  if (page === undefined) return;
  headers.set("access-control-expose-headers", [...headers.keys()].join(", "));
  headers.set("access-control-allow-origin", page);
}
