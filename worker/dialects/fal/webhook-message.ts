/**
 * fal's webhooks. Their signature is Ed25519 (RFC 8032) over request id, tenant, time and the body's SHA-256, one per
 * line, under keys published at `/fal/.well-known/jwks.json` (RFC 7517, RFC 8037).
 *
 * The keys are derived from the deployment's key secret, one per term of 90 days: none is stored, and all isolates have
 * the same. The keys of the previous and the next term are published too, for receivers that cache the list.
 */
import type { SendRequest } from "../../../durable-objects/courier-protocol.ts";
import type { JobView } from "../../../durable-objects/job-protocol.ts";
import type { CallContext } from "../../call-context.ts";
import { config, type Env } from "../../env.ts";
import { sha256 } from "../../fingerprint.ts";
import type { Showing } from "../../jobs/view.ts";
import { hmac } from "../../caller/keys.ts";
import { outputOf } from "./output.ts";
import { failureOf } from "./refusals.ts";

const TERM_MS = 90 * 86_400_000;
/** The PKCS #8 prefix of a 32-byte private key (RFC 8410). */
const PKCS8_HEAD = Uint8Array.fromHex("302e020100300506032b657004220420");

export async function falMessage(showing: Showing, view: JobView): Promise<unknown> {
  const { id } = view.spec;
  const ids = { request_id: id, gateway_request_id: id };
  const failure = failureOf(view.state, "en");
  if (failure === null) return { ...ids, status: "OK", payload: await outputOf(showing, view) };
  const { detail, message, type } = failure;
  return { ...ids, status: "ERROR", error: message, error_type: type, payload: { detail } };
}

export async function falSignature(
  env: Env,
  { tenant, subject }: SendRequest,
  body: string,
  now: Date,
): Promise<[string, string][]> {
  const time = String(Math.floor(now.getTime() / 1000));
  const digest = await sha256(new TextEncoder().encode(body));
  const told = new TextEncoder().encode([subject.id, tenant, time, digest].join("\n"));
  const signature = await crypto.subtle.sign("Ed25519", await privateKey(env, termOf(now.getTime())), told);
  return [
    ["x-fal-webhook-request-id", subject.id],
    ["x-fal-webhook-user-id", tenant],
    ["x-fal-webhook-timestamp", time],
    ["x-fal-webhook-signature", new Uint8Array(signature).toHex()],
  ];
}

export async function getJwks({ env }: Pick<CallContext, "env">): Promise<Response> {
  const term = termOf(Date.now());
  const keys = await Promise.all([term, term - 1, term + 1].map((each) => publicKey(env, each)));
  return Response.json({ keys });
}

const termOf = (now: number): number => Math.floor(now / TERM_MS);

async function privateKey(env: Env, term: number): Promise<CryptoKey> {
  const seed = await hmac(config(env).keySecret, "fal-webhook-key", String(term));
  const pkcs8 = new Uint8Array([...PKCS8_HEAD, ...seed]);
  return crypto.subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, true, ["sign"]);
}

async function publicKey(env: Env, term: number) {
  const { x } = (await crypto.subtle.exportKey("jwk", await privateKey(env, term))) as JsonWebKey;
  return { kty: "OKP", crv: "Ed25519", x, kid: `portico-${term}`, use: "sig", alg: "EdDSA" };
}
