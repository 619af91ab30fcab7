/** Stage 2, second half: decides when two asks are the same. Computes the cache key, or says why there is none. */
import canonicalize from "canonicalize";
import type { Ask } from "./ask.ts";
import { MULTIPART } from "./body/fields.ts";
import { betweenBoundaries } from "./body/form.ts";

/** Incremented when the meaning of a key changes, so that no old answer is found under a new meaning. */
const KEY_VERSION = 2;

export type WhyNot =
  | "cache_disabled"
  | "not_a_run"
  | "not_post"
  | "body_streamed"
  | "body_spooled"
  | "no_body"
  | "no_seed"
  | "not_canonical"
  | "no_store";

/** `scope` is the tenant or `shared`; the answer is stored under `<scope>/answers/<key>`. */
export type Fingerprint = { cacheable: true; key: string; scope: string } | { cacheable: false; why: WhyNot };

/** `host`: our host as the caller named it, when none is configured. The origin sees it, so it is part of the key. */
export async function fingerprint(ask: Ask, tenant: string, host: string | null = null): Promise<Fingerprint> {
  const why = reason(ask);
  if (why !== null) return { cacheable: false, why };
  const { config, id } = ask.service;
  const scope = config.cache.shared ? "shared" : tenant;
  const content = await canonicalContent(ask);
  if (content === null) return { cacheable: false, why: "not_canonical" };
  const material = [
    KEY_VERSION,
    scope,
    id,
    config.model_version,
    ask.method,
    ask.path,
    ask.query,
    typeOf(ask),
    content,
    ...(host === null ? [] : [host]),
  ];
  return { cacheable: true, scope, key: await sha256(new TextEncoder().encode(JSON.stringify(material))) };
}

function reason(ask: Ask): WhyNot | null {
  const { config } = ask.service;
  if (!config.cache.enabled) return "cache_disabled";
  if (ask.as !== "run") return "not_a_run";
  if (ask.method !== "POST") return "not_post";
  if (ask.directives.noStore) return "no_store";
  if (ask.body.kind === "stream") return "body_streamed";
  if (ask.body.kind === "spooled") return "body_spooled";
  if (ask.body.kind === "none") return "no_body";
  return config.kind === "image" && !hasSeed(ask) ? "no_seed" : null;
}

/** Only an explicit seed makes an image depend on its request alone: a negative or absent seed means a random one. */
function hasSeed(ask: Ask): boolean {
  if (ask.fields?.kind !== "json" || typeof ask.fields.value !== "object" || ask.fields.value === null) return false;
  const { seed } = { ...ask.service.config.defaults, ...ask.fields.value } as { seed?: unknown };
  return Number.isInteger(seed) && (seed as number) >= 0;
}

/** The content type as the origin gets it. Another charset means another text; a form's boundary has no meaning. */
function typeOf(ask: Ask): string | null {
  const header = ask.headers.get("content-type")?.toLowerCase() ?? null;
  if (ask.mediaType === null || header === null) return ask.mediaType;
  const parameters = header
    .slice(ask.mediaType.length)
    .replace(/;\s*(boundary=("[^"]*"|[^;]*)|charset="?utf-8"?\s*(?=;|$))/g, "");
  return ask.mediaType + parameters.replaceAll(/\s/g, "");
}

/**
 * The body in canonical form: RFC 8785 for JSON, hashes of the unmodified parts for multipart forms, otherwise the hash
 * of the body.
 */
async function canonicalContent(ask: Ask): Promise<string | null> {
  if (ask.fields?.kind === "json") {
    const { value } = ask.fields;
    const { defaults } = ask.service.config;
    const whole =
      typeof value === "object" && value !== null && !Array.isArray(value) ? { ...defaults, ...value } : value;
    try {
      // With a duplicate name, some servers use the first value and others the last.
      return isExact(whole) && !ask.fields.isAmbiguous ? (canonicalize(whole) ?? null) : null;
    } catch {
      // Not representable: numbers that JSON cannot express (1e400), lone surrogates, nesting deeper than the stack.
      return null;
    }
  }
  if (ask.body.kind !== "bytes") return null;
  if (ask.mediaType !== MULTIPART) return sha256(ask.body.bytes);
  const pieces = betweenBoundaries(ask.body.bytes, ask.headers.get("content-type") ?? "");
  return pieces === null ? null : JSON.stringify(await Promise.all(pieces.map(sha256)));
}

/** JSON.parse rounds integers beyond 2^53, so different requests would share an answer. */
export function isExact(value: unknown): boolean {
  if (typeof value === "number") return Number.isSafeInteger(value) || !Number.isInteger(value);
  return typeof value !== "object" || value === null || Object.values(value).every(isExact);
}

export async function sha256(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
