import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isRefusal, type Reason, REASONS, refuse, retryAfterSeconds } from "../../worker/refusal.ts";

/** The contract's table: status, code, type, reasons; plus `changed_meanwhile`, which only the admin API returns. */
const TABLE: [status: number, code: string, type: string, reasons: Reason[]][] = [
  [400, "invalid_request", "invalid_request_error", ["malformed_json", "invalid_field", "bad_path"]],
  [401, "invalid_api_key", "authentication_error", ["missing", "malformed", "unknown", "expired", "revoked"]],
  [403, "forbidden", "permission_error", ["scope", "service", "tenant_disabled", "bad_signature", "role"]],
  [404, "not_found", "not_found", ["not_found"]],
  [405, "method_not_allowed", "invalid_request_error", ["method_not_allowed"]],
  [409, "conflict", "invalid_request_error", ["idempotency_in_flight", "job_finished", "changed_meanwhile"]],
  [410, "gone", "not_found", ["expired_signature", "expired_result"]],
  [413, "body_too_large", "invalid_request_error", ["body_too_large"]],
  [415, "unsupported_media_type", "invalid_request_error", ["unsupported_media_type"]],
  [416, "range_not_satisfiable", "invalid_request_error", ["range_not_satisfiable"]],
  [422, "idempotency_mismatch", "invalid_request_error", ["idempotency_mismatch"]],
  [429, "rate_limited", "rate_limit_error", ["requests", "concurrency", "quota", "address"]],
  [500, "internal", "internal_error", ["internal"]],
  [
    502,
    "bad_gateway",
    "origin_error",
    ["origin_refused", "origin_reset", "origin_invalid", "origin_status", "origin_config", "tunnel_down"],
  ],
  [
    503,
    "service_unavailable",
    "cluster_overload",
    ["queue_full", "queue_timeout", "deadline_unmeetable", "no_healthy_card", "paused"],
  ],
  [504, "gateway_timeout", "origin_error", ["origin_timeout", "not_cached"]],
];
const CAPACITY_S_MAX = 30;

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const waits = fc.integer({ min: 0, max: 600_000 });

/** All values that Retry-After may have. */
function said(reason: Reason, retryAfterMs: number): Set<number | null> {
  return new Set(Array.from({ length: 100 }, (_, i) => retryAfterSeconds(refuse(reason, { retryAfterMs }), i / 100)));
}

test("every reason has the status, code and type of the contract", () => {
  const actual = TABLE.flatMap(([, , , reasons]) =>
    reasons.map((reason) => [reason, REASONS[reason].status, REASONS[reason].code, REASONS[reason].type]),
  );
  const expected = TABLE.flatMap(([status, code, type, reasons]) =>
    reasons.map((reason) => [reason, status, code, type]),
  );
  expect(actual).toEqual(expected);
});

test("every reason is in the contract, apart from those of the admin API's card calls and `client_gone`", () => {
  const named = new Set<string>(TABLE.flatMap(([, , , reasons]) => reasons));
  const ofDeletedCards = ["card_listed", "card_busy"];
  // No caller ever gets `client_gone` as an answer.
  const others = Object.keys(REASONS).filter((reason) => !named.has(reason));
  expect(others).toEqual([...ofDeletedCards, "client_gone"]);
});

test("Retry-After of a policy refusal is never too early, and that of a capacity refusal is at most 30 s", () => {
  const property = fc.property(waits, share, (retryAfterMs, random) => {
    const policy = retryAfterSeconds(refuse("requests", { retryAfterMs }), random) ?? 0;
    expect(policy).toBeGreaterThanOrEqual(Math.max(1, retryAfterMs / 1000));
    expect(policy).toBeLessThanOrEqual(2 + (retryAfterMs / 1000) * 1.2);
    const capacity = retryAfterSeconds(refuse("queue_full", { retryAfterMs }), random) ?? 0;
    expect(capacity).toBeGreaterThanOrEqual(1);
    expect(capacity).toBeLessThanOrEqual(CAPACITY_S_MAX);
    expect([policy, capacity].every(Number.isInteger)).toBe(true);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("every 503 has a Retry-After, even without an estimate, and no other refusal has one then", () => {
  for (const [status, , , reasons] of TABLE) {
    for (const reason of reasons) {
      const without = retryAfterSeconds(refuse(reason), 0);
      if (status === 503) expect(without, reason).toBeGreaterThanOrEqual(1);
      else expect(without, reason).toBeNull();
    }
  }
});

test("Retry-After is spread over more than one second, for short and long waits", () => {
  for (const retryAfterMs of [0, 500, 1_000, 2_000, 15_000, 29_500, 60_000, 600_000]) {
    for (const reason of ["requests", "queue_full", "paused"] as const) {
      expect(said(reason, retryAfterMs).size, `${reason} ${retryAfterMs}`).toBeGreaterThan(1);
    }
  }
});

test("idempotency_in_flight always has a Retry-After of exactly one second", () => {
  expect(said("idempotency_in_flight", 1_000)).toEqual(new Set([1]));
});

test("without an estimate there is no Retry-After", () => {
  expect(retryAfterSeconds(refuse("quota"), 0.5)).toBeNull();
});

test("isRefusal recognizes a refusal and nothing else", () => {
  expect(isRefusal(refuse("paused", { param: "x" }))).toBe(true);
  for (const other of [null, undefined, "refused", 1, {}, { refused: "true" }, []])
    expect(isRefusal(other)).toBe(false);
});
