/** Middleware for every request: assigns an id, writes one log line, and sets the headers that every answer carries. */
import type { MiddlewareHandler } from "hono";
import { target } from "./services/catalog.ts";
import { isForPages, isPreflight, letRead, preflightAnswer } from "./caller/cors.ts";
import { renderRefusal } from "./dialects/native.ts";
import { noteUse } from "./caller/last-use.ts";
import { isRefusal, refuse } from "./refusal.ts";
import { type App, openTrace, serverTiming, type Trace } from "./trace.ts";

export const door: MiddlewareHandler<App> = async (c, next) => {
  const trace = openTrace(c.req.raw, Date.now());
  c.set("trace", trace);
  const { method, url, signal } = c.req.raw;
  const at = target(url);
  // Any page may read answers given before the tenant is known: they reveal nothing about any tenant.
  if (!isRefusal(at) && isForPages(at.path)) trace.pages = ["*"];
  const line = (status: number): void => log(trace, method, isRefusal(at) ? "" : at.path, status);
  // If the caller disconnects before the answer, this context ends with it, so the log line is written at once.
  const gone = (): void => line(499);
  signal.addEventListener("abort", gone, { once: true });
  if (isRefusal(at) || !URL.canParse(url)) c.res = renderRefusal(isRefusal(at) ? at : refuse("bad_path"), trace);
  else if (trace.pages !== null && isPreflight(c.req.raw)) c.res = preflightAnswer(c.req.raw);
  else await next();
  signal.removeEventListener("abort", gone);
  finish(c.res.headers, trace, c.req.raw.headers.get("origin"));
  if (trace.credential !== null && c.res.status < 400)
    noteUse(c.env, trace.credential, trace.startedAt, (work) => c.executionCtx.waitUntil(work));
  if (!signal.aborted) line(c.res.status);
};

/** Sets the headers that every answer carries, in place: copying a response costs as much as making one. */
function finish(headers: Headers, trace: Trace, origin: string | null): void {
  for (const [name, value] of trace.headers) headers.set(name, value);
  headers.set("x-request-id", trace.id);
  if (trace.clientId !== null) headers.set("x-client-request-id", trace.clientId);
  const timing = serverTiming(trace);
  if (timing !== "") headers.set("server-timing", timing);
  // Everything that is not a result is `no-store`.
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
  if (trace.pages !== null) letRead(headers, trace.pages, origin);
}

function log(trace: Trace, method: string, path: string, status: number): void {
  const { id, clientId, startedAt, stages, fields } = trace;
  const ms = Date.now() - startedAt;
  console.log(
    JSON.stringify({ event: "request", id, client_id: clientId, method, path, status, ms, ...stages, ...fields }),
  );
}
