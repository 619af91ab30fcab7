/** Limits as they apply in one service, and the headers that report them. */
import { parseList } from "structured-headers";
import { expect, test } from "vitest";
import type { AdmitReply } from "../../durable-objects/tenant-protocol.ts";
import { duration, tellRate, tellSlots } from "../../worker/limits.ts";
import { isRefusal } from "../../worker/refusal.ts";
import { DEFAULT_LIMITS, type Limits, type LimitsPut } from "../../worker/caller/tenant.ts";
import { completeLimits, hasOwnRate, limitsIn } from "../../worker/caller/tenant-limits.ts";
import { openTrace } from "../../worker/trace.ts";

function complete(put: LimitsPut, before: Partial<Limits> = {}): Limits {
  const limits = completeLimits(put, before);
  if (isRefusal(limits)) throw new Error(JSON.stringify(limits));
  return limits;
}

test("a service's own limits apply in that service and nowhere else", () => {
  const limits = complete({ concurrent: 4, services: { portrait: { concurrent: 1, per_address: 2 } } });
  expect(limitsIn(limits, "portrait")).toMatchObject({ concurrent: 1, per_address: 2, waiting: 100 });
  for (const other of ["cosyvoice2", "constructor"]) expect(limitsIn(limits, other)).toEqual(limits);
});

test("a null in a service's limits removes the tenant's limit there", () => {
  const limits = complete({ per_address: 3, services: { portrait: { per_address: null } } });
  expect([limits.per_address, limitsIn(limits, "portrait").per_address]).toEqual([3, null]);
});

test("a service with its own rate or burst has its own tokens", () => {
  const limits = complete({ services: { a: { burst: 5 }, b: { requests_per_minute: 5 }, c: { waiting: 0 } } });
  expect(["a", "b", "c", "d", "constructor"].map((id) => hasOwnRate(limits, id))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
});

test("limits merge per service and field; null removes a service's own limits", () => {
  const before = complete({ burst: 7, services: { a: { burst: 5, waiting: 1 }, b: { burst: 6 } } });
  const after = complete({ services: { a: { waiting: 2 }, b: null, c: null, constructor: { burst: 1 } } }, before);
  expect(after.services).toEqual({ a: { burst: 5, waiting: 2 }, constructor: { burst: 1 } });
  expect(after.burst).toBe(7);
  expect(complete({}, after)).toEqual(after);
  expect(complete({})).toEqual(DEFAULT_LIMITS);
});

test("a tenant can have limits of its own for at most a hundred services", () => {
  const hundred = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`s${i}`, { burst: 1 }]));
  const before = complete({ services: hundred });
  expect(completeLimits({ services: { more: { burst: 1 } } }, before)).toMatchObject({
    reason: "invalid_field",
    param: "limits.services",
  });
  expect(Object.keys(complete({ services: { more: { burst: 1 }, s0: null } }, before).services)).toHaveLength(100);
});

const left = { limit: 60, remaining: 59, resetMs: 100 };
const told = (path: string, reply: AdmitReply, slotsLeft: number | null = null) => {
  const trace = openTrace(new Request(`http://portico${path}`), 0);
  tellRate(trace, reply);
  if (slotsLeft !== null) tellSlots(trace, slotsLeft);
  return Object.fromEntries(trace.headers);
};

test("below /v1, and only there, the limit is also reported in OpenAI's headers", () => {
  expect(told("/v1/images/generations", { ok: true, ...left })).toEqual({
    ratelimit: '"requests";r=59;t=1',
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "100ms",
  });
  for (const path of ["/sdapi/v1/txt2img", "/v1", "/x?/v1/y", "/v10/x"])
    expect(Object.keys(told(path, { ok: true, ...left })), path).toEqual(["ratelimit"]);
});

test("slots and requests are reported in one list if both were checked", () => {
  const { ratelimit = "" } = told("/sdapi/v1/txt2img", { ok: true, ...left }, 5);
  expect(parseList(ratelimit).map(([name, parameters]) => [name, Object.fromEntries(parameters)])).toEqual([
    ["requests", { r: 59, t: 1 }],
    ["slots", { r: 5 }],
  ]);
});

test("a refused rate reports when the next request passes, a used-up quota what is left of the rate", () => {
  const none = { ...left, remaining: 0, resetMs: 60_000 };
  expect(told("/x/", { ok: false, ...none, retryAfterMs: 1_001 })).toEqual({ ratelimit: '"requests";r=0;t=2' });
  const over = { ok: false as const, over: "results" as const, quota: 1, retryAfterMs: 86_400_000 };
  expect(told("/x/", { ...over, ...left })).toEqual({ ratelimit: '"requests";r=59;t=1' });
});

test.each([
  [0, "0ms"],
  [12, "12ms"],
  [1_000, "1s"],
  [1_250, "1.25s"],
  [59_999, "59.999s"],
  [360_000, "6m0s"],
  [3_600_000, "1h0m0s"],
  [90_061_001, "25h1m1.001s"],
])("%i ms is formatted as %s", (ms, text) => {
  expect(duration(ms)).toBe(text);
});
