/**
 * Stage 1: authentication. A key's checksum is verified before any lookup; then the key is looked up in D1 through a
 * short-lived memory cache.
 */
import { LRUCache } from "lru-cache";
import { keyWithTenant } from "./db/queries.ts";
import { config, type Env } from "./env.ts";
import { CREDENTIAL_LENGTH_MAX, keyedHash, readKey, sameText } from "./caller/keys.ts";
import { detail } from "./details.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { DEFAULT_LIMITS, type Limits, type Scope } from "./caller/tenant.ts";

/** How long an isolate trusts what D1 said about a key. Including replication lag, a revoked key stops within 10 s. */
const CALLER_MS = 5_000;
const CALLERS_MAX = 5_000;
/** Window over which GUESSES counts wrong checksums. */
const GUESSES_WINDOW_MS = 10_000;
/** Wrong checksums allowed per address within the window; same value as in wrangler.toml. */
const GUESSES_MAX = 100;
const GUESSERS_MAX = 2_000;

/** The owner of a key, and what the key permits. */
export interface Caller {
  tenant: string;
  key: string;
  limits: Limits;
  weight: number;
  /** Web origins whose pages may read the answers. */
  origins: string[];
  /** Null: all. */
  scopes: Scope[] | null;
  services: string[] | null;
}

type Known = { caller: Caller; expiresAt: number | null } | Refusal;

const known = new LRUCache<string, Known>({ max: CALLERS_MAX, ttl: CALLER_MS, ttlResolution: 0, perf: Date });

/** Times of the latest wrong checksums, per client address. */
const guesses = new LRUCache<string, number[]>({ max: GUESSERS_MAX });

/** Clears this isolate's memory of keys and tenants. The admin API calls it after a change. */
export function forgetCallers(): void {
  known.clear();
}

/** Whether the request carries any credential at all. */
export function hasCredential(request: Request): boolean {
  return request.headers.has("authorization") || request.headers.has("x-api-key");
}

/** Returns the caller, or 401, 403 `tenant_disabled` or 429 `address`. For a recently seen key it only reads memory. */
export async function authenticate(request: Request, env: Env): Promise<Caller | Refusal> {
  const key = credential(request);
  if (isRefusal(key)) return key;
  const now = Date.now();
  let entry = known.get(key);
  if (entry === undefined) {
    const { keySecret } = config(env);
    const read = await readKey(keySecret, "ptk", key);
    if (!read.ok) {
      return read.why === "shape" ? refuse("malformed", { facts: detail("not_a_key") }) : guess(request, env);
    }
    entry = await lookUp(env, keySecret, read.id, key);
    known.set(key, entry);
  }
  if (isRefusal(entry)) return entry;
  if (entry.expiresAt !== null && entry.expiresAt <= now) return refuse("expired");
  return entry.caller;
}

/** Extracts the request's single credential from any of the supported headers and schemes. */
function credential(request: Request): string | Refusal {
  const found = new Set<string>();
  const authorization = request.headers.get("authorization");
  if (authorization !== null) {
    // No part of this pattern can match in two ways, so it cannot backtrack on input whose length the caller controls.
    const [, scheme = "", rest = ""] = /^([A-Za-z]+) +(\S+)$/.exec(authorization) ?? [];
    const key = /^(bearer|key|token)$/i.test(scheme) ? rest : /^basic$/i.test(scheme) ? passwordOf(rest) : "";
    if (key === "") return refuse("malformed", { facts: detail("key_scheme") });
    found.add(key);
  }
  const header = request.headers.get("x-api-key");
  if (header !== null) found.add(header);
  if (found.size === 0) return refuse("missing");
  if (found.size > 1) return refuse("malformed", { facts: detail("two_credentials") });
  const [key = ""] = found;
  if (key === "") return refuse("missing");
  return key.length > CREDENTIAL_LENGTH_MAX ? refuse("malformed", { facts: detail("credential_length") }) : key;
}

/** Returns the password of Basic credentials (RFC 7617), or an empty string when they are malformed. */
function passwordOf(encoded: string): string {
  try {
    const text = atob(encoded);
    const colon = text.indexOf(":");
    return colon < 0 ? "" : text.slice(colon + 1);
  } catch {
    return "";
  }
}

/** The client address that Cloudflare reports. Null in local mode, where only the caller itself could supply it. */
export function clientAddress(request: Request, env: Env): string | null {
  return config(env).local ? null : request.headers.get("cf-connecting-ip");
}

/**
 * Counts a wrong checksum of a key or an operator token per client address. Only wrong checksums count, so a valid
 * credential is never refused because of them. The rate limit binding counts per location in fixed windows; this
 * isolate's own count uses a sliding window.
 */
export async function guess(request: Request, env: Env): Promise<Refusal> {
  const address = clientAddress(request, env) ?? "local";
  const now = Date.now();
  const recent = (guesses.get(address) ?? []).filter((at) => at > now - GUESSES_WINDOW_MS && at <= now);
  const oldest = recent.length >= GUESSES_MAX ? recent[0] : undefined;
  if (oldest === undefined && (await env.GUESSES.limit({ key: address })).success) {
    // Read again: other requests may have added entries while the binding was called.
    guesses.set(address, [...(guesses.get(address) ?? []), now].slice(-GUESSES_MAX));
    return refuse("malformed", { facts: detail("checksum") });
  }
  const retryAfterMs = oldest === undefined ? GUESSES_WINDOW_MS : oldest + GUESSES_WINDOW_MS - now;
  return refuse("address", { facts: { retry_s: Math.ceil(retryAfterMs / 1000) }, retryAfterMs });
}

async function lookUp(env: Env, keySecret: string, id: string, key: string): Promise<Known> {
  const [row, hash] = await Promise.all([keyWithTenant(env, id), keyedHash(keySecret, key)]);
  if (row === null || !sameText(row.key.hash, hash)) return refuse("unknown");
  if (row.key.state !== "active") return refuse("revoked");
  if (row.tenant.state !== "active") return refuse("tenant_disabled");
  const caller: Caller = {
    tenant: row.tenant.id,
    key: row.key.id,
    limits: { ...DEFAULT_LIMITS, ...row.tenant.limits },
    weight: row.tenant.weight,
    origins: row.tenant.origins,
    scopes: row.key.scopes,
    services: row.key.services,
  };
  return { caller, expiresAt: row.key.expiresAt };
}

export function mayUse(caller: Caller, scope: Scope): Refusal | null {
  return caller.scopes === null || caller.scopes.includes(scope) ? null : refuse("scope", { facts: { scope } });
}

export function mayCall(caller: Caller, service: string): Refusal | null {
  return caller.services === null || caller.services.includes(service)
    ? null
    : refuse("service", { facts: { service } });
}
