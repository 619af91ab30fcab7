/** Signed URLs: an HMAC over the purpose, the id and the expiry, under a named key so that keys can be rotated. */
import { visibilityOf } from "./delivery.ts";
import type { Config } from "../env.ts";
import { hmac, hmacMatches } from "../caller/keys.ts";
import { type Refusal, refuse } from "../refusal.ts";

/** Lifetime of a signed URL, seconds. */
export const SIGNED_S = 86_400;
/** A signature for one purpose is not valid for another. */
const PURPOSE = "result-url";

const encoded = (bytes: Uint8Array) => bytes.toBase64({ alphabet: "base64url", omitPadding: true });

/** A result's absolute URL, signed for a day; unsigned if a signature is unnecessary (public) or useless (private). */
export async function signedUrl(keys: Pick<Config, "urlKeys">, base: string, id: string, now: number): Promise<string> {
  if (visibilityOf(id) !== "signed") return `${base}/v1/results/${id}`;
  return `${base}/v1/results/${id}?${await signedQuery(keys, PURPOSE, id, now + SIGNED_S * 1000)}`;
}

/** The query parameters that sign this text for a purpose, until a time in ms since the epoch. */
export async function signedQuery(
  { urlKeys }: Pick<Config, "urlKeys">,
  purpose: string,
  text: string,
  until: number,
): Promise<string> {
  const [kid, secret] = urlKeys[0] ?? ["", ""];
  const exp = String(Math.floor(until / 1000));
  return `exp=${exp}&kid=${kid}&sig=${encoded(await hmac(secret, purpose, `${text}\n${exp}`))}`;
}

/** Returns null if the query has a valid, unexpired signature of this id. Checks the signature before the expiry. */
export async function signatureRefusal(
  { urlKeys }: Config,
  id: string,
  query: URLSearchParams,
  now: number,
  purpose = PURPOSE,
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
  // For an unknown key id, another secret is used, so that the check takes as long.
  const matches = await hmacMatches(secret ?? urlKeys[0]?.[1] ?? "", purpose, `${id}\n${exp[0]}`, mac);
  // Rejects other encodings of the same bytes.
  if (!matches || secret === undefined || encoded(mac) !== sig[0]) return refuse("bad_signature");
  return Number(exp[0]) * 1000 > now ? null : refuse("expired_signature");
}

/** Whether the query contains any signature parameter. */
export function isSigned(query: URLSearchParams): boolean {
  return query.has("exp") || query.has("kid") || query.has("sig");
}
