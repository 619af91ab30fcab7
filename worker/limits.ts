/** Stage 4: admission. The Tenant object holds the exact request rate; its reply goes into the rate limit headers. */
import { type Item, serializeList, type Parameters } from "structured-headers";
import type { Admission, AdmitReply, TenantLimits } from "../durable-objects/tenant-protocol.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import type { ServiceRow } from "./db/queries.ts";
import type { Env } from "./env.ts";
import { isFlood } from "./caller/flood.ts";
import { countsOf, priceOf } from "./caller/price.ts";
import { detail } from "./details.ts";
import { type Refusal, refuse } from "./refusal.ts";
import type { Limits } from "./caller/tenant.ts";
import { hasOwnRate, limitsIn } from "./caller/tenant-limits.ts";
import type { Trace } from "./trace.ts";
import { withTimeout, CallTimeout } from "../durable-objects/timeout.ts";

const MINUTE_S = 60;
/** Window over which FLOOD counts. */
const FLOOD_WINDOW_MS = 10_000;

/**
 * Takes one rate token and reserves the request's quota; this also opens the request's record. A request whose
 * fingerprint is already under way reserves quota only if it later runs by itself (`trace.owes`). `job`: the id of the
 * job that the request submits.
 */
export async function admit(
  env: Env,
  caller: Caller,
  trace: Trace,
  ask: Ask,
  fingerprint: string | null = null,
  job: string | null = null,
): Promise<Refusal | null> {
  const limits = tenantLimits(caller, ask.service);
  const request = admissionOf(caller, trace, ask, fingerprint);
  const admission = job === null ? request : { ...request, id: job, requestId: trace.id };
  const reply = await asked(() => env.TENANT.getByName(caller.tenant).admit(admission, limits));
  tellRate(trace, reply);
  if (!reply.ok) return refusalOf(reply, limits);
  trace.owes = reply.follows === true;
  return null;
}

/** Admits a batch: one rate token in all, and the quota of every job. The limits of the first job's service apply. */
export async function admitBatch(
  env: Env,
  caller: Caller,
  trace: Trace,
  jobs: { id: string; ask: Ask }[],
): Promise<Refusal | null> {
  const [first] = jobs;
  if (first === undefined) return null;
  const limits = tenantLimits(caller, first.ask.service);
  const admissions = jobs.map(({ id, ask }) => ({ ...admissionOf(caller, trace, ask, null), id }));
  const reply = await asked(() => env.TENANT.getByName(caller.tenant).admitAll(admissions, limits));
  tellRate(trace, reply);
  return reply.ok ? null : refusalOf(reply, limits);
}

/** Takes only a rate token, for an answer that was made before. */
export async function admitReplay(
  env: Env,
  caller: Caller,
  trace: Trace,
  service: ServiceRow,
): Promise<Refusal | null> {
  const { id, clientId } = trace;
  const tenant = env.TENANT.getByName(caller.tenant);
  const limits = tenantLimits(caller, service);
  const of = { id, clientId, service: service.id, key: caller.key, fingerprint: null };
  const reply = await asked(() => tenant.admit({ ...of, hits: false, results: 0, costMilli: 0 }, limits));
  tellRate(trace, reply);
  if (!reply.ok) return refusalOf(reply, limits);
  await asked(() => tenant.record(id, "succeeded", null, [], "token"));
  return null;
}

/** Why a request that is about to run by itself could not pay what it owes. */
export interface Unpaid {
  refusal: Refusal;
  /** An identical request is under way and has reserved the quota, so its answer may still serve this one. */
  follows: boolean;
}

/** Charges what a request owes when it is about to run by itself. Returns null when it is paid. */
export async function pay(
  env: Env,
  caller: Caller,
  trace: Trace,
  ask: Ask,
  fingerprint: string | null,
): Promise<Unpaid | null> {
  if (!trace.owes) return null;
  const limits = tenantLimits(caller, ask.service);
  const admission = admissionOf(caller, trace, ask, fingerprint);
  const reply = await asked(() => env.TENANT.getByName(caller.tenant).pay(admission, limits));
  if (!reply.ok) return { refusal: refusalOf(reply, limits), follows: "over" in reply && reply.follows === true };
  trace.owes = false;
  return null;
}

/** Charges the price of a cache hit. Makes no call when hits of this service are free. */
export async function admitHit(
  env: Env,
  caller: Caller,
  trace: Trace,
  ask: Ask,
  results: string[],
): Promise<Refusal | null> {
  if (!priceOf(ask.service.config).hits) return null;
  const limits = tenantLimits(caller, ask.service);
  const admission = admissionOf(caller, trace, ask, null);
  const reply = await asked(() => env.TENANT.getByName(caller.tenant).admitHit(admission, limits, results));
  return reply.ok ? null : refusalOf(reply, limits);
}

/** Asks again when the object was terminated during the call, as by a deploy. The request id makes this idempotent. */
async function asked<P extends PromiseLike<unknown>>(question: () => P): Promise<Awaited<P>> {
  try {
    return await withTimeout(question());
  } catch (error) {
    if (error instanceof CallTimeout) throw error;
    return await withTimeout(question());
  }
}

function admissionOf({ key }: Caller, { id, clientId }: Trace, ask: Ask, fingerprint: string | null): Admission {
  const { hits } = priceOf(ask.service.config);
  return { id, clientId, service: ask.service.id, key, fingerprint, hits, ...countsOf(ask) };
}

function tenantLimits({ limits }: Caller, service: ServiceRow): TenantLimits {
  const { requests_per_minute, burst, results_per_month, cost_per_month } = limitsIn(limits, service.id);
  return {
    requestsPerMinute: requests_per_minute,
    burst,
    ownRate: hasOwnRate(limits, service.id),
    quota: {
      results: results_per_month,
      costMilli: cost_per_month === null ? null : Math.round(cost_per_month * 1000),
    },
  };
}

function refusalOf(reply: Extract<AdmitReply, { ok: false }>, { requestsPerMinute }: TenantLimits): Refusal {
  const { retryAfterMs } = reply;
  if ("over" in reply) {
    const { quota } = reply;
    return refuse("quota", {
      facts: detail(reply.over === "cost" ? "cost_units" : "results", { quota }),
      retryAfterMs,
    });
  }
  return refuse("requests", {
    facts: { limit: requestsPerMinute, retry_s: Math.ceil(retryAfterMs / 1000) },
    retryAfterMs,
  });
}

/** Flood guard for cache hits. A hit makes no object call, so this cheap limit is the only one. */
export async function guardHit(env: Env, caller: Caller, service: string | null): Promise<Refusal | null> {
  if (!(await isFlood(env, caller.key, Math.random()))) return null;
  const { requests_per_minute: limit } = service === null ? caller.limits : limitsIn(caller.limits, service);
  const facts = { limit, retry_s: FLOOD_WINDOW_MS / 1000 };
  return refuse("requests", { facts, retryAfterMs: FLOOD_WINDOW_MS });
}

/** `RateLimit-Policy` (IETF draft-ietf-httpapi-ratelimit-headers): the request rate, and the slots per tenant. */
export function ratePolicy({ requests_per_minute, burst, concurrent }: Limits): string {
  return list([
    ["requests", { q: Math.max(requests_per_minute, burst), w: MINUTE_S }],
    ["slots", { q: concurrent, qu: "concurrent-requests" }],
  ]);
}

/** Reports what is left of the rate as `RateLimit`; below `/v1` also in the headers that OpenAI's clients read. */
export function tellRate(trace: Trace, reply: AdmitReply): void {
  const { limit, remaining, resetMs } = reply;
  const waitMs = reply.ok || "over" in reply ? resetMs : reply.retryAfterMs;
  trace.headers.set("ratelimit", list([["requests", { r: remaining, t: Math.ceil(waitMs / 1000) }]]));
  if (!trace.belowV1) return;
  trace.headers.set("x-ratelimit-limit-requests", String(limit));
  trace.headers.set("x-ratelimit-remaining-requests", String(remaining));
  trace.headers.set("x-ratelimit-reset-requests", duration(resetMs));
}

/** Reports the slots left to the tenant, not counting the one offered to this request. */
export function tellSlots(trace: Trace, slotsLeft: number): void {
  const rate = trace.headers.get("ratelimit");
  const slots = list([["slots", { r: slotsLeft }]]);
  trace.headers.set("ratelimit", rate === undefined ? slots : `${rate}, ${slots}`);
}

/** Formats a duration as Go does: `12ms`, `1.5s`, `6m0s`, `1h0m0s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const [hours, minutes] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000)];
  const seconds = `${(ms % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes % 60}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}

/** A structured-field list (RFC 9651) of strings with parameters. */
function list(items: [name: string, parameters: Record<string, string | number>][]): string {
  return serializeList(
    items.map(([name, parameters]): Item => [name, new Map(Object.entries(parameters)) as Parameters]),
  );
}
