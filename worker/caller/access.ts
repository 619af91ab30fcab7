/**
 * Cloudflare Access in front of the operators' paths: verifies its assertion and returns the identity. Access signs an
 * assertion for every request that its policy lets through. Only the signature is trusted, never the mere fact that a
 * request came through Access.
 */
import { createRemoteJWKSet, customFetch, errors, type JWTVerifyGetKey, jwtVerify } from "jose";
import { parse } from "hono/utils/cookie";
import type { AccessApp } from "../env.ts";
import { JSON_TYPE } from "../body/fields.ts";
import { mediaTypeOf } from "../results/media.ts";
import { detail } from "../details.ts";
import { type Refusal, refuse } from "../refusal.ts";

const HEADER = "cf-access-jwt-assertion";
const COOKIE = "CF_Authorization";
/** A typical assertion has about 1,500 characters. */
const ASSERTION_LENGTH_MAX = 16_384;
/** RS256 is Access's default; its documentation also names ES256. `none` and shared secrets are never accepted. */
const ALGORITHMS = ["RS256", "ES256"];
/** Tolerated difference between Access's clock and ours, seconds. */
const CLOCK_TOLERANCE_S = 30;
/**
 * The team's keys are fetched again when they are older than this, or when none has the assertion's `kid`, but then at
 * most once per cooldown.
 */
const KEYS_MS = 3_600_000;
const KEYS_COOLDOWN_MS = 30_000;
const KEYS_TIMEOUT_MS = 5_000;
/** No fetch is made for this long after a failed one, however many requests need the keys. */
const KEYS_PAUSE_MS = 5_000;

/** A request's assertion: from the header, or from the cookie when Access covers only another path of this host. */
export function assertionIn(headers: Headers): string | null {
  return headers.get(HEADER) ?? parse(headers.get("cookie") ?? "", COOKIE)[COOKIE] ?? null;
}

/**
 * Returns the person's e-mail address or the service token's common name, in lower case, or 401. Checks signature,
 * issuer, audience and expiry (RFC 7519). Fails closed when the team's keys cannot be fetched.
 */
export async function identityIn(app: AccessApp, assertion: string): Promise<string | Refusal> {
  try {
    if (assertion.length > ASSERTION_LENGTH_MAX) return notValid();
    const { payload } = await jwtVerify(assertion, keysOf(app), {
      issuer: app.issuer,
      audience: app.audience,
      algorithms: ALGORITHMS,
      clockTolerance: CLOCK_TOLERANCE_S,
      requiredClaims: ["exp"],
    });
    const identity = payload["email"] ?? payload["common_name"];
    return typeof identity === "string" && identity !== "" ? identity.toLowerCase() : notValid();
  } catch (error) {
    if (error instanceof errors.JWTExpired) return refuse("expired");
    if (error instanceof NoKeys) return refuse("malformed", { facts: detail("access_keys") });
    if (error instanceof errors.JOSEError) return notValid();
    throw error;
  }
}

function notValid(): Refusal {
  return refuse("malformed", { facts: detail("assertion") });
}

/**
 * CSRF protection. A browser attaches the Access cookie to requests from any page, so a change must come from a page of
 * this host, according to `Origin` or `Sec-Fetch-Site`, and must have a content type that other pages cannot send
 * without a CORS preflight.
 */
export function refuseForeignPage(request: Request): Refusal | null {
  if (request.method === "GET" || request.method === "HEAD") return null;
  const [site, origin] = [request.headers.get("sec-fetch-site"), request.headers.get("origin")];
  const own = new URL(request.url).origin;
  const fromHere =
    (site !== null || origin !== null) && (site ?? "same-origin") === "same-origin" && (origin ?? own) === own;
  if (fromHere && mediaTypeOf(request.headers) === JSON_TYPE) return null;
  return refuse("role", { facts: detail("foreign_page", { type: JSON_TYPE }) });
}

class NoKeys extends Error {}

let known: { issuer: string; keys: JWTVerifyGetKey } | undefined;

/** The signing keys of a team, created once per isolate. */
function keysOf({ issuer }: AccessApp): JWTVerifyGetKey {
  if (known?.issuer !== issuer) known = { issuer, keys: teamKeys(issuer) };
  return known.keys;
}

function teamKeys(issuer: string): JWTVerifyGetKey {
  let failedAt = -Infinity;
  const pausing = (): boolean => Math.abs(Date.now() - failedAt) < KEYS_PAUSE_MS;
  const remote = createRemoteJWKSet(new URL("/cdn-cgi/access/certs", issuer), {
    timeoutDuration: KEYS_TIMEOUT_MS,
    cooldownDuration: KEYS_COOLDOWN_MS,
    cacheMaxAge: KEYS_MS,
    [customFetch]: (url, options) => (pausing() ? Promise.reject(new NoKeys("pausing")) : fetch(url, options)),
  });
  return async (header, token) => {
    try {
      return await remote(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) throw error;
      if (!pausing()) {
        failedAt = Date.now();
        console.error(JSON.stringify({ event: "access_keys_failed", issuer, error: String(error) }));
      }
      throw new NoKeys("no keys", { cause: error });
    }
  };
}
