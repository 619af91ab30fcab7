/**
 * Refusals: every expected failure, as a value that a stage returns instead of throwing. `REASONS` alone defines what a
 * reason means on the wire (status, code, type, whether a retry can help); a reason added to the union does not compile
 * until it is listed there. Dialects render refusals; they never create reasons of their own.
 */

import { detail, type DetailKey, type FactsOf } from "./details.ts";

export type Started = "no" | "yes" | "unknown";

export type Reason =
  | "malformed_json"
  | "invalid_field"
  | "bad_path"
  | "missing"
  | "malformed"
  | "unknown"
  | "expired"
  | "revoked"
  | "scope"
  | "service"
  | "tenant_disabled"
  | "bad_signature"
  | "role"
  | "not_found"
  | "method_not_allowed"
  | "idempotency_in_flight"
  | "job_finished"
  | "card_listed"
  | "card_busy"
  | "changed_meanwhile"
  | "expired_signature"
  | "expired_result"
  | "body_too_large"
  | "unsupported_media_type"
  | "range_not_satisfiable"
  | "idempotency_mismatch"
  | "requests"
  | "concurrency"
  | "quota"
  | "address"
  | "internal"
  | "origin_refused"
  | "origin_reset"
  | "origin_invalid"
  | "origin_status"
  | "origin_config"
  | "tunnel_down"
  | "queue_full"
  | "queue_timeout"
  | "deadline_unmeetable"
  | "no_healthy_card"
  | "paused"
  | "origin_timeout"
  | "not_cached"
  | "client_gone";

export interface Refusal {
  refused: true;
  reason: Reason;
  /** Facts for the message; never a secret, a host or a card's address. */
  facts: Record<string, string | number>;
  /** The invalid field, for 400 and 422. */
  param: string | null;
  /** Earliest sensible retry; rendered as Retry-After in whole seconds, jittered. */
  retryAfterMs: number | null;
  started: Started;
  /** The same request would fail again, although its reason is usually retryable. */
  final: boolean;
  /** Extra headers that belong to the status (`Allow`, `Content-Range`). */
  headers: Record<string, string>;
}

/** Creates a refusal; omitted fields get empty defaults. */
export function refuse(reason: Reason, more: Partial<Omit<Refusal, "refused" | "reason">> = {}): Refusal {
  const none = { facts: {}, param: null, retryAfterMs: null, started: "no" as const, final: false, headers: {} };
  return { refused: true, reason, ...none, ...more };
}

/** Whether the same request may succeed later. */
export function isRetryable({ reason, final }: Refusal): boolean {
  return REASONS[reason].retryable && !final;
}

/** The origin's answer is complete, but too large to be processed here. Another run would not change that. */
export function answerTooLarge(bytesMax: number): Refusal {
  const facts = detail("answer_too_large", { max_mib: bytesMax / 1024 ** 2 });
  return refuse("origin_invalid", { started: "yes", final: true, facts });
}

/** 400, naming the invalid field and what is wrong with it. */
export function invalid<K extends DetailKey>(param: string, key: K, ...facts: FactsOf<K>): Refusal {
  return refuse("invalid_field", { param, facts: detail(key, ...facts) });
}

/** 405, with the allowed methods as in the `Allow` header. */
export function notAllowed(method: string, allow: string): Refusal {
  return refuse("method_not_allowed", { facts: { method, allow }, headers: { allow } });
}

export function isRefusal(value: unknown): value is Refusal {
  return typeof value === "object" && value !== null && (value as { refused?: unknown }).refused === true;
}

export interface Wire {
  status: number;
  code: string;
  type: string;
  retryable: boolean;
}

const INVALID = "invalid_request_error";
const bad = { status: 400, code: "invalid_request", type: INVALID, retryable: false };
const unauthenticated = { status: 401, code: "invalid_api_key", type: "authentication_error", retryable: false };
const forbidden = { status: 403, code: "forbidden", type: "permission_error", retryable: false };
const gone = { status: 410, code: "gone", type: "not_found", retryable: false };
const limited = { status: 429, code: "rate_limited", type: "rate_limit_error", retryable: true };
const conflict = { status: 409, code: "conflict", type: INVALID };
const badGateway = { status: 502, code: "bad_gateway", type: "origin_error", retryable: true };
const unavailable = { status: 503, code: "service_unavailable", type: "cluster_overload", retryable: true };
const timeout = { status: 504, code: "gateway_timeout", type: "origin_error" };

export const REASONS: Record<Reason, Wire> = {
  malformed_json: bad,
  invalid_field: bad,
  bad_path: bad,
  missing: unauthenticated,
  malformed: unauthenticated,
  unknown: unauthenticated,
  expired: unauthenticated,
  revoked: unauthenticated,
  scope: forbidden,
  service: forbidden,
  tenant_disabled: forbidden,
  bad_signature: forbidden,
  role: forbidden,
  not_found: { status: 404, code: "not_found", type: "not_found", retryable: false },
  method_not_allowed: { status: 405, code: "method_not_allowed", type: INVALID, retryable: false },
  idempotency_in_flight: { ...conflict, retryable: true },
  job_finished: { ...conflict, retryable: false },
  card_listed: { ...conflict, retryable: false },
  card_busy: { ...conflict, retryable: true },
  changed_meanwhile: { ...conflict, retryable: true },
  expired_signature: gone,
  expired_result: gone,
  body_too_large: { status: 413, code: "body_too_large", type: INVALID, retryable: false },
  unsupported_media_type: { status: 415, code: "unsupported_media_type", type: INVALID, retryable: false },
  range_not_satisfiable: { status: 416, code: "range_not_satisfiable", type: INVALID, retryable: false },
  idempotency_mismatch: { status: 422, code: "idempotency_mismatch", type: INVALID, retryable: false },
  requests: limited,
  concurrency: limited,
  quota: { ...limited, retryable: false },
  address: limited,
  internal: { status: 500, code: "internal", type: "internal_error", retryable: true },
  origin_refused: badGateway,
  origin_reset: badGateway,
  origin_invalid: badGateway,
  origin_status: badGateway,
  origin_config: { ...badGateway, retryable: false },
  tunnel_down: badGateway,
  queue_full: unavailable,
  queue_timeout: unavailable,
  deadline_unmeetable: unavailable,
  no_healthy_card: unavailable,
  paused: unavailable,
  origin_timeout: { ...timeout, retryable: true },
  not_cached: { ...timeout, retryable: false },
  // The caller is gone, so this appears only in the log and in /v1/requests.
  client_gone: { status: 499, code: "client_gone", type: INVALID, retryable: true },
};

/** Longest Retry-After of a 503, seconds. */
const OVERLOAD_RETRY_S_MAX = 30;
/** Retry-After of a 503 without an estimate, ms. */
const OVERLOAD_RETRY_MS = 2_000;
/** Fraction by which Retry-After is randomly extended, so that refused callers do not all return at once. */
const RETRY_JITTER = 0.2;

/** Whole seconds for Retry-After: for 429 never before a retry can succeed, for 503 an estimate of at most 30 s. */
export function retryAfterSeconds(refusal: Refusal, random: number): number | null {
  const { status } = REASONS[refusal.reason];
  // Also applies when a card or an identical request's run failed with a 503, which gives no estimate.
  const retryAfterMs = refusal.retryAfterMs ?? (status === 503 ? OVERLOAD_RETRY_MS : null);
  if (retryAfterMs === null) return null;
  const seconds = Math.max(1, Math.ceil(retryAfterMs / 1000));
  // A 409 concerns a single caller and has a fixed delay, so it needs no jitter.
  if (status !== 429 && status !== 503) return seconds;
  const least = status === 503 ? Math.min(seconds, OVERLOAD_RETRY_S_MAX) : seconds;
  // At least one second: a smaller spread would round to zero.
  const spread = Math.max(1, Math.round(least * RETRY_JITTER));
  const from = status === 503 ? Math.min(least, OVERLOAD_RETRY_S_MAX - spread) : least;
  return from + Math.floor(random * (spread + 1));
}
