/** Stage 4: may it. The exact request rate lives in the Tenant object; what it says goes into the headers. */
import { type Item, serializeList, type Parameters } from "structured-headers";
import type { RateReply } from "../durable-objects/protocol.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import type { Env } from "./env.ts";
import { isFlood } from "./flood.ts";
import { type Refusal, refuse } from "./refusal.ts";
import type { Trace } from "./trace.ts";
import { answered } from "./until.ts";

const MINUTE_S = 60;
/** FLOOD counts over this time. */
const FLOOD_WINDOW_MS = 10_000;

/** Takes one token of the tenant's rate and the results' place in its quota; the request's record is opened with it. */
export async function admit(env: Env, caller: Caller, trace: Trace, ask: Ask): Promise<Refusal | null> {
  const { requests_per_minute, burst, results_per_month } = caller.limits;
  const request = { id: trace.id, clientId: trace.clientId, service: ask.service.id, results: resultsAsked(ask) };
  const limits = { requestsPerMinute: requests_per_minute, burst, resultsPerMonth: results_per_month };
  const reply = await answered(env.TENANT.getByName(caller.tenant).admit(request, limits));
  if ("quota" in reply) return refuse("quota", { facts: { quota: reply.quota }, retryAfterMs: reply.retryAfterMs });
  trace.headers.set("ratelimit", rateLimit(reply));
  if (reply.ok) return null;
  const retry_s = Math.ceil(reply.retryAfterMs / 1000);
  return refuse("requests", { facts: { limit: requests_per_minute, retry_s }, retryAfterMs: reply.retryAfterMs });
}

/** Images or sounds that the ask makes if all goes well. */
function resultsAsked(ask: Ask): number {
  const { kind, defaults } = ask.service.config;
  if (ask.as === "read" || kind === "http") return 0;
  if (kind === "tts" || ask.fields?.kind !== "json") return 1;
  const fields: Record<string, unknown> = { ...defaults, ...(ask.fields.value as object | null) };
  const count = (name: string): number => {
    const value = Number(fields[name] ?? 1);
    return Number.isInteger(value) && value >= 1 ? value : 1;
  };
  return count("batch_size") * count("n_iter");
}

/** The cheap guard before a hit: a hit costs no object call, so only a flood is stopped here. */
export async function guardHit(env: Env, caller: Caller): Promise<Refusal | null> {
  if (!(await isFlood(env, caller.key, Math.random()))) return null;
  const facts = { limit: caller.limits.requests_per_minute, retry_s: FLOOD_WINDOW_MS / 1000 };
  return refuse("requests", { facts, retryAfterMs: FLOOD_WINDOW_MS });
}

/** `RateLimit-Policy` (IETF draft-ietf-httpapi-ratelimit-headers): the rate, and the slots that one may hold. */
export function ratePolicy(caller: Caller): string {
  const { requests_per_minute, burst, concurrent } = caller.limits;
  return list([
    ["requests", { q: Math.max(requests_per_minute, burst), w: MINUTE_S }],
    ["slots", { q: concurrent, qu: "concurrent-requests" }],
  ]);
}

function rateLimit(reply: RateReply): string {
  const wait = reply.ok ? reply.resetMs : reply.retryAfterMs;
  return list([["requests", { r: reply.remaining, t: Math.ceil(wait / 1000) }]]);
}

/** A structured-field list (RFC 9651) of strings with parameters. */
function list(items: [name: string, parameters: Record<string, string | number>][]): string {
  return serializeList(
    items.map(([name, parameters]): Item => [name, new Map(Object.entries(parameters)) as Parameters]),
  );
}
