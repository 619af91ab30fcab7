/** Stage 2, second half: decides when two asks are the same. Computes the cache key, or says why there is none. */
import canonicalize from "canonicalize";
import type { Ask } from "./ask.ts";
import { isForm, isJson, MULTIPART } from "./body/fields.ts";
import { betweenBoundaries } from "./body/form.ts";

/** Incremented when the meaning of a key changes, so that no old answer is found under a new meaning. */
const KEY_VERSION = 3;

export type WhyNot =
  | "cache_disabled"
  | "not_a_run"
  | "not_post"
  | "body_encoded"
  | "body_streamed"
  | "body_spooled"
  | "no_body"
  | "no_seed"
  | "no_subseed"
  | "not_canonical"
  | "no_store";

/** `scope` is the tenant or `shared`; the answer is stored under `<scope>/answers/<key>`. */
export type Fingerprint = { cacheable: true; key: string; scope: string } | { cacheable: false; why: WhyNot };

/** `host`: our host as the caller named it, when none is configured. The origin sees it, so it is part of the key. */
export async function fingerprintOf(ask: Ask, tenant: string, host: string | null = null): Promise<Fingerprint> {
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
  // The key does not include the coding, and a cacheable request's origin does not get this header.
  if (isEncoded(ask.headers)) return "body_encoded";
  return config.kind === "image" ? unseeded(ask) : null;
}

function isEncoded(headers: Headers): boolean {
  const codings = (headers.get("content-encoding") ?? "").toLowerCase().split(",");
  return codings.some((coding) => !["", "identity"].includes(coding.trim()));
}

/**
 * Returns which seed is missing, or null. An image depends on its request alone only if all its seeds are given: for a
 * negative or absent seed the origin draws a random one. `defaults` do not count, because the origin does not get them.
 */
function unseeded(ask: Ask): "no_seed" | "no_subseed" | null {
  const { value } = ask.fields?.kind === "json" ? ask.fields : { value: null };
  if (typeof value !== "object" || value === null) return "no_seed";
  const { seed, subseed } = value as { seed?: unknown; subseed?: unknown };
  if (!isSeed(seed)) return "no_seed";
  const { subseed_strength } = { ...ask.service.config.defaults, ...value } as { subseed_strength?: unknown };
  return isZero(subseed_strength ?? 0) || isSeed(subseed) ? null : "no_subseed";
}

function isSeed(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0;
}

/** Servers may also read strings as numbers. Anything that is not clearly a number counts as above 0. */
function isZero(strength: unknown): boolean {
  return (typeof strength === "number" || typeof strength === "string") && Number(strength) <= 0;
}

/** `;name=value`, where a quoted value may contain semicolons (RFC 9110 5.6.6). */
const PARAMETER = /;\s*([^\s;="]+)=("(?:[^"\\]|\\.)*"|[^;"]*)\s*(?=;|$)/g;

/**
 * The content type as part of the key. Parameter values are unchanged, because their case may matter. Left out are a
 * form's boundary, which has no meaning, and `charset=utf-8` of JSON and forms, which is their default.
 */
function typeOf({ headers, mediaType }: Ask): string | null {
  const header = headers.get("content-type");
  if (mediaType === null || header === null) return mediaType;
  const isText = isJson(mediaType) || isForm(mediaType);
  const parameters = header.slice(header.split(";", 1).join().length);
  const plain = parameters.replace(PARAMETER, (_, given: string, value: string) => {
    const name = given.toLowerCase();
    if (name === "boundary" && mediaType === MULTIPART) return "";
    if (name === "charset" && isText && /^"?utf-8"?$/i.test(value.trim())) return "";
    return `;${name}=${value.trim()}`;
  });
  return mediaType + plain;
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
