/** Signed URLs: an HMAC over id and expiry under a named key, so that keys can be rotated. */
import type { Config } from "./env.ts";
import { hmac, hmacMatches } from "./keys.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** Life of a signed URL, seconds. */
const SIGNED_S = 86_400;
/** What a signature lets read; one of one purpose is none of another. */
type Purpose = "result-url" | "stream-url";

const encoded = (bytes: Uint8Array) => bytes.toBase64({ alphabet: "base64url", omitPadding: true });

/** An absolute URL of a result, good for a day. */
export async function signedUrl(config: Config, base: string, id: string, now: number): Promise<string> {
  return `${base}/v1/results/${id}?${await signedQuery(config, "result-url", id, now)}`;
}

/** The query that lets whoever has it read this, for a day. */
export async function signedQuery({ urlKeys }: Config, purpose: Purpose, id: string, now: number): Promise<string> {
  const [kid, secret] = urlKeys[0] ?? ["", ""];
  const exp = String(Math.floor(now / 1000) + SIGNED_S);
  const sig = encoded(await hmac(secret, purpose, `${id}\n${exp}`));
  return `exp=${exp}&kid=${kid}&sig=${sig}`;
}

/** Null when the query signs this id and has not expired. The signature is looked at before the expiry. */
export async function signatureRefusal(
  { urlKeys }: Config,
  id: string,
  query: URLSearchParams,
  now: number,
  purpose: Purpose = "result-url",
): Promise<Refusal | null> {
  const [exp, kid, sig] = ["exp", "kid", "sig"].map((name) => query.getAll(name));
  if (exp?.length !== 1 || kid?.length !== 1 || sig?.length !== 1) return refuse("bad_signature");
  const secret = urlKeys.find(([known]) => known === kid[0])?.[1];
  let mac: Uint8Array;
  try {
    mac = Uint8Array.fromBase64(sig[0] ?? "", { alphabet: "base64url" });
  } catch {
    return refuse("bad_signature");
  }
  // An unknown key is checked against another one's secret, so that it takes as long.
  const matches = await hmacMatches(secret ?? urlKeys[0]?.[1] ?? "", purpose, `${id}\n${exp[0]}`, mac);
  // The same bytes must not have two spellings.
  if (!matches || secret === undefined || encoded(mac) !== sig[0]) return refuse("bad_signature");
  return Number(exp[0]) * 1000 > now ? null : refuse("expired_signature");
}

/** Whether the query tries to sign at all. */
export function isSigned(query: URLSearchParams): boolean {
  return query.has("exp") || query.has("kid") || query.has("sig");
}
