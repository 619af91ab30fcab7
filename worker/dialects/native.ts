/** The canonical error format of native, OpenAI and service routes and of the admin API. */
import { message } from "../messages.ts";
import { isRetryable, REASONS, type Refusal, retryAfterSeconds } from "../refusal.ts";
import type { Trace } from "../trace.ts";

/** The members of the canonical error. */
export function errorObject(refusal: Refusal, trace: Pick<Trace, "id" | "language">, at = Date.now()) {
  const { code, type } = REASONS[refusal.reason];
  return {
    code,
    type,
    message: message(refusal, trace.language),
    param: refusal.param,
    reason: refusal.reason,
    retryable: isRetryable(refusal),
    started: refusal.started,
    request_id: trace.id,
    timestamp: new Date(at).toISOString().replace(/\.\d+Z$/, "Z"),
  };
}

/**
 * Renders a refusal as an HTTP response. With `Accept: application/problem+json` the members of RFC 9457 are added
 * beside `error`.
 */
export function renderRefusal(refusal: Refusal, trace: Trace): Response {
  const { status, code } = REASONS[refusal.reason];
  const error = errorObject(refusal, trace);
  const headers = refusalHeaders(refusal, trace);
  headers.set("content-type", trace.problem ? "application/problem+json" : "application/json");
  const problem = trace.problem
    ? {
        type: `urn:portico:error:${refusal.reason}`,
        title: code,
        status,
        detail: error.message,
        instance: `urn:portico:request:${trace.id}`,
      }
    : {};
  return new Response(JSON.stringify({ ...problem, error }), { status, headers });
}

/** The headers of a refusal, in every dialect. */
export function refusalHeaders(refusal: Refusal, trace: Trace): Headers {
  const { status } = REASONS[refusal.reason];
  const headers = new Headers(refusal.headers);
  headers.set("content-language", trace.language);
  const retryAfter = retryAfterSeconds(refusal, Math.random());
  if (retryAfter !== null) headers.set("retry-after", String(retryAfter));
  // Clients retry these statuses whatever the body says.
  if (!isRetryable(refusal) && (status === 409 || status === 429 || status >= 500))
    headers.set("x-should-retry", "false");
  if (status === 401) headers.set("www-authenticate", 'Bearer realm="portico"');
  trace.fields["reason"] = refusal.reason;
  return headers;
}
