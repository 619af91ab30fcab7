/**
 * What one request reports about itself: ids, stage times, and the fields of its one log line. Created and written out
 * by door.ts. Never holds a secret, a body or a query.
 */
import { parseAccept } from "hono/utils/accept";
import type { Env } from "./env.ts";
import type { Credential } from "./caller/last-use.ts";

/** Bindings and variables of the Hono app. */
export interface App {
  Bindings: Env;
  Variables: { trace: Trace };
}

export const STAGES = ["auth", "limit", "cache", "queue", "origin", "store"] as const;
export type Stage = (typeof STAGES)[number];

const CLIENT_ID = /^[A-Za-z0-9_-]{1,128}$/;
/** Only this much of an `Accept` or `Accept-Language` header is read, characters. */
const PREFERENCES_LENGTH_MAX = 500;

export interface Trace {
  id: string;
  /** The caller's own X-Request-Id, when well-formed. */
  clientId: string | null;
  language: "en" | "zh";
  /** The caller prefers RFC 9457 members beside `error`. */
  problem: boolean;
  /** The caller prefers CSV (RFC 4180) where it is available. */
  csv: boolean;
  startedAt: number;
  /** The path is below `/v1`: the answer also reports limits in the headers that OpenAI's clients read. */
  belowV1: boolean;
  /** Admitted without quota, because an identical request is under way; charged if this one runs by itself. */
  owes: boolean;
  stages: Partial<Record<Stage, number>>;
  /** The credential that authenticated the request. Null when there is none, or none with a row in D1. */
  credential: Credential | null;
  /** How long it held slots, all tries together, ms. */
  gpuMs: number;
  /** Fields of the log line; later values win. */
  fields: Record<string, string | number | boolean | null>;
  /** Web origins whose pages may read the answer (CORS), `*` for any. Null: no CORS headers are sent. */
  pages: readonly string[] | null;
  /** Headers that every answer to this request carries (limits, card, cache status), keyed by lower-case name. */
  headers: Map<string, string>;
}

export function openTrace(request: Request, now: number): Trace {
  const given = request.headers.get("x-request-id");
  const accepted = wanted(request.headers.get("accept"));
  return {
    id: `req_${crypto.randomUUID().replaceAll("-", "")}`,
    clientId: given !== null && CLIENT_ID.test(given) ? given : null,
    language: language(request.headers.get("accept-language")),
    problem: accepted.includes("application/problem+json"),
    csv: accepted.find((type) => type === "text/csv" || type === "application/json") === "text/csv",
    startedAt: now,
    belowV1: /^https?:\/\/[^/?#]*\/v1\//.test(request.url),
    owes: false,
    stages: {},
    credential: null,
    pages: null,
    gpuMs: 0,
    fields: {},
    headers: new Map(),
  };
}

/** Creates a trace for work that no caller waits for: a job's run, a webhook. It is logged under its own id. */
export function quietTrace(id: string, now: number): Trace {
  return {
    id,
    clientId: null,
    language: "en",
    problem: false,
    csv: false,
    startedAt: now,
    stages: {},
    credential: null,
    pages: null,
    belowV1: false,
    owes: false,
    gpuMs: 0,
    fields: {},
    headers: new Map(),
  };
}

/**
 * Media types or languages that the caller accepts, lower case, most preferred first (RFC 9110 12.4.2). Entries with
 * weight 0 are left out.
 */
function wanted(header: string | null): string[] {
  const preferences = parseAccept((header ?? "").slice(0, PREFERENCES_LENGTH_MAX));
  return preferences.filter(({ q }) => q > 0).map(({ type }) => type.toLowerCase());
}

/** English, unless Accept-Language ranks Chinese higher (RFC 9110 12.5.4). */
function language(header: string | null): "en" | "zh" {
  const known = wanted(header).find((tag) => /^(zh\b|en\b|\*)/.test(tag)) ?? "en";
  return known.startsWith("zh") ? "zh" : "en";
}

/** Runs one stage and adds its duration to the trace, whether it succeeds or throws. */
export async function timed<T>(trace: Trace, stage: Stage, work: () => Promise<T>): Promise<T> {
  const from = Date.now();
  try {
    return await work();
  } finally {
    trace.stages[stage] = (trace.stages[stage] ?? 0) + (Date.now() - from);
  }
}

/** `Server-Timing` (W3C): the stages that ran, in ms. */
export function serverTiming(trace: Trace): string {
  return STAGES.filter((stage) => trace.stages[stage] !== undefined)
    .map((stage) => `${stage};dur=${trace.stages[stage]}`)
    .join(", ");
}
