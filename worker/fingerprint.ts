/** Stage 2, second half: what makes two asks the same. The key of the result cache, or why there is none. */
import canonicalize from "canonicalize";
import type { Ask } from "./ask.ts";
import { MULTIPART } from "./body/fields.ts";
import { betweenBoundaries } from "./body/form.ts";

/** Grows when the meaning of a key changes, so that no old answer is found under a new meaning. */
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

/** `scope` is the tenant, or `shared`; the answer is kept under `<scope>/answers/<key>`. */
export type Fingerprint = { cacheable: true; key: string; scope: string } | { cacheable: false; why: WhyNot };

/** `host`: the caller's word for us where nothing better is configured; the origin is told, so it is part of the key. */
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

/** An image is determined by its request only with an explicit seed: a negative or absent one is random. */
function hasSeed(ask: Ask): boolean {
  if (ask.fields?.kind !== "json" || typeof ask.fields.value !== "object" || ask.fields.value === null) return false;
  const { seed } = { ...ask.service.config.defaults, ...ask.fields.value } as { seed?: unknown };
  return Number.isInteger(seed) && (seed as number) >= 0;
}

/** The content type as the origin gets it: another charset is another text. A form's boundary says nothing. */
function typeOf(ask: Ask): string | null {
  const header = ask.headers.get("content-type")?.toLowerCase() ?? null;
  if (ask.mediaType === null || header === null) return ask.mediaType;
  const parameters = header
    .slice(ask.mediaType.length)
    .replace(/;\s*(boundary=("[^"]*"|[^;]*)|charset="?utf-8"?\s*(?=;|$))/g, "");
  return ask.mediaType + parameters.replaceAll(/\s/g, "");
}

/** The body in its one canonical form: RFC 8785 for JSON, hashes of the parts as they stand for forms, else its own hash. */
async function canonicalContent(ask: Ask): Promise<string | null> {
  if (ask.fields?.kind === "json") {
    const { value } = ask.fields;
    const { defaults } = ask.service.config;
    const whole =
      typeof value === "object" && value !== null && !Array.isArray(value) ? { ...defaults, ...value } : value;
    try {
      // What says a name twice is read as its first value by some servers, as its last by others.
      return isExact(whole) && !ask.fields.isAmbiguous ? (canonicalize(whole) ?? null) : null;
    } catch {
      // Numbers that JSON cannot say again (1e400), lone surrogates, nesting beyond the stack.
      return null;
    }
  }
  if (ask.body.kind !== "bytes") return null;
  if (ask.mediaType !== MULTIPART) return sha256(ask.body.bytes);
  const pieces = betweenBoundaries(ask.body.bytes, ask.headers.get("content-type") ?? "");
  return pieces === null ? null : JSON.stringify(await Promise.all(pieces.map(sha256)));
}

/** Integers beyond 2^53 come rounded out of JSON.parse: requests that differ would share an answer. */
export function isExact(value: unknown): boolean {
  if (typeof value === "number") return Number.isSafeInteger(value) || !Number.isInteger(value);
  return typeof value !== "object" || value === null || Object.values(value).every(isExact);
}

export async function sha256(bytes: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
