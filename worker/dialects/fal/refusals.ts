/**
 * Errors in fal's format: refusals, an origin's own errors, and failures of queued requests. Always `application/json`
 * with `detail` and `message`; 422 lists the invalid fields as FastAPI does.
 */
import type { JobState } from "../../../durable-objects/job-protocol.ts";
import { refusalOf } from "../../jobs/view.ts";
import { message } from "../../messages.ts";
import { type Reason, REASONS, type Refusal, refuse, retryAfterSeconds } from "../../refusal.ts";
import { complaintOf } from "../../run/complaint.ts";
import type { Trace } from "../../trace.ts";

/** Clients do not retry a 504 that has this header. */
const USER_TIMEOUT = { "x-fal-request-timeout-type": "user" };
/** Statuses that clients retry by themselves. */
const REPEATED = new Set([429, 502, 503, 504]);

/** fal's error types for failures behind its gateway. */
const TYPES: Partial<Record<Reason, string>> = {
  internal: "internal_error",
  origin_refused: "runner_connection_refused",
  origin_reset: "runner_disconnected",
  origin_invalid: "runner_incomplete_response",
  origin_status: "runner_server_error",
  origin_config: "runner_connection_error",
  tunnel_down: "runner_connection_error",
  origin_timeout: "request_timeout",
  queue_timeout: "startup_timeout",
  deadline_unmeetable: "startup_timeout",
  queue_full: "runner_scheduling_failure",
  no_healthy_card: "runner_scheduling_failure",
  paused: "runner_scheduling_failure",
  client_gone: "client_disconnected",
};

export interface Failure {
  status: number;
  type: string;
  message: string;
  detail: unknown;
  headers: Record<string, string>;
}

type Language = Trace["language"];

/** The refusal when the caller's own start deadline has passed. */
export function tooLate(waitedS: number): Refusal {
  return refuse("queue_timeout", { facts: { waited_s: waitedS }, headers: USER_TIMEOUT });
}

export function falRefusal(refusal: Refusal, trace: Trace): Response {
  trace.fields["reason"] = refusal.reason;
  const retryAfter = retryAfterSeconds(refusal, Math.random());
  const failure = failureIn(refusal, trace.language);
  if (retryAfter !== null && failure.status !== 504) failure.headers["retry-after"] = String(retryAfter);
  return failed(failure, trace);
}

export function failed({ status, type, message: said, detail, headers }: Failure, trace: Trace): Response {
  const typed: Record<string, string> = status >= 500 ? { "x-fal-error-type": type } : {};
  const body = { detail, message: said, error_type: type, request_id: trace.headers.get("x-fal-request-id") };
  return Response.json(body, { status, headers: { ...headers, ...typed } });
}

function failureIn(refusal: Refusal, language: Language): Failure {
  const { status: usual, code } = REASONS[refusal.reason];
  const { reason, param, facts } = refusal;
  const isInvalid = reason === "invalid_field" || reason === "malformed_json";
  const isLate = "x-fal-request-timeout-type" in refusal.headers;
  const isFinal = refusal.final && REPEATED.has(usual);
  const status = isInvalid ? 422 : isLate ? 504 : isFinal ? 500 : usual;
  const headers = { ...refusal.headers, ...(status === 401 ? { "www-authenticate": 'Key realm="portico"' } : {}) };
  const said = "app" in facts ? NO_APP[language](String(facts["app"])) : message(refusal, language);
  const detail = status === 422 ? [fault(param ?? "", said)] : said;
  return { status, type: TYPES[reason] ?? code, message: said, detail, headers };
}

const NO_APP: Record<Language, (app: string) => string> = {
  en: (app) => `Application '${app}' not found`,
  zh: (app) => `应用 “${app}” 不存在`,
};

const CANCELED: Record<Language, string> = { en: "The request was canceled.", zh: "请求已取消。" };

function fault(param: string, msg: string) {
  return { loc: ["body", ...param.split(".").filter((part) => part !== "")], msg, type: "value_error" };
}

/** Renders an origin's own 4xx, with its status and message. Its `detail` is passed on unchanged. */
export function ownFailure(status: number, text: string): Failure {
  const said = complaintOf(text).message ?? `the model's server answered with status ${status}`;
  const detail = detailIn(text) ?? said;
  const listed = status === 422 && typeof detail === "string" ? [fault("", detail)] : detail;
  return { status, type: "bad_request", message: said, detail: listed, headers: {} };
}

function detailIn(text: string): unknown {
  try {
    return (JSON.parse(text) as { detail?: unknown } | null)?.detail;
  } catch {
    return undefined;
  }
}

/**
 * Returns why a queued request failed or was canceled; null: it did neither. Its status is final, so it is never one
 * that clients retry.
 */
export function failureOf({ status, error, answer }: JobState, language: Language): Failure | null {
  if (status === "canceled") {
    const said = CANCELED[language];
    return { status: 499, type: "client_cancelled", message: said, detail: said, headers: {} };
  }
  if (status !== "failed" || error === null) return null;
  const failure =
    answer !== null && answer.body !== null && answer.status < 500
      ? ownFailure(answer.status, answer.body)
      : failureIn(lateOr(refusalOf(error)), language);
  const isFinal = REPEATED.has(failure.status) && !("x-fal-request-timeout-type" in failure.headers);
  return isFinal ? { ...failure, status: 500 } : failure;
}

/** For a job, `queue_timeout` can only mean the caller's own start deadline. */
function lateOr(refusal: Refusal): Refusal {
  return refusal.reason === "queue_timeout" ? { ...refusal, headers: USER_TIMEOUT } : refusal;
}
