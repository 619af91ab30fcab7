/**
 * Tenant keys and operator tokens: how they are made, checked and hashed. Pure except for WebCrypto.
 *
 *   ptk_live_<id>_<secret><checksum>      a tenant's; all of [0-9A-Za-z]
 *   pto_live_<id>_<secret><checksum>      an operator's
 *
 * The id has 12 characters, the secret 30 (178 random bits), the checksum 7 (the first 40 bits of an HMAC under the key
 * secret), so that a typo or a guess is refused without a lookup. Only a key's `keyedHash` is ever stored.
 */
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LENGTH = 12;
const SECRET_LENGTH = 30;
const CHECKSUM_LENGTH = 7;
const KEY = new RegExp(`^(pt[ko])_live_([0-9A-Za-z]{${ID_LENGTH}})_[0-9A-Za-z]{${SECRET_LENGTH + CHECKSUM_LENGTH}}$`);

/** A tenant's key or an operator's token. The checksum covers the prefix, so neither passes for the other. */
export type Kind = "ptk" | "pto";

/** Longest credential that is examined; a key has 60 characters. */
export const CREDENTIAL_LENGTH_MAX = 200;

/** Unbiased random text of [0-9A-Za-z]; 5.95 bits per character. */
export function randomText(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      // 248 = 4 * 62: larger bytes would favor the first letters.
      if (byte < 248 && text.length < length) text += ALPHABET[byte % 62];
    }
  }
  return text;
}

/** Caches keys rather than promises: a promise that another request started may never resolve. */
const hmacKeys = new Map<string, CryptoKey>();

/** An HMAC-SHA-256 key; imported once per isolate and secret. */
async function hmacKey(secret: string): Promise<CryptoKey> {
  const known = hmacKeys.get(secret);
  if (known !== undefined) return known;
  const bytes = new TextEncoder().encode(secret);
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
  hmacKeys.set(secret, key);
  return key;
}

/** HMAC-SHA-256 over `purpose` and `text`; the purpose separates the uses of one secret. */
export async function hmac(secret: string, purpose: string, text: string): Promise<Uint8Array> {
  const key = await hmacKey(secret);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`${purpose}\n${text}`)));
}

export async function hmacMatches(secret: string, purpose: string, text: string, mac: Uint8Array): Promise<boolean> {
  const key = await hmacKey(secret);
  return crypto.subtle.verify("HMAC", key, mac, new TextEncoder().encode(`${purpose}\n${text}`));
}

/** Constant-time comparison. */
export function sameText(a: string, b: string): boolean {
  const [x, y] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  return x.byteLength === y.byteLength && crypto.subtle.timingSafeEqual(x, y);
}

async function checksum(secret: string, body: string): Promise<string> {
  const mac = await hmac(secret, "key-checksum", body);
  let value = mac.slice(0, 5).reduce((sum, byte) => sum * 256 + byte, 0);
  let text = "";
  for (let i = 0; i < CHECKSUM_LENGTH; i++) {
    text = ALPHABET[value % 62] + text;
    value = Math.floor(value / 62);
  }
  return text;
}

/** Makes a new key, which is shown once and never stored. With `id`, it replaces the key that has this id. */
export async function makeKey(
  keySecret: string,
  kind: Kind,
  id = randomText(ID_LENGTH),
): Promise<{ id: string; key: string; hash: string; tail: string }> {
  const body = `${kind}_live_${id}_${randomText(SECRET_LENGTH)}`;
  const key = body + (await checksum(keySecret, body));
  return { id, key, hash: await keyedHash(keySecret, key), tail: key.slice(-4) };
}

/** Checks a presented key's shape and checksum, without a lookup. Returns its id, or why it cannot be one of ours. */
export async function readKey(
  keySecret: string,
  kind: Kind,
  key: string,
): Promise<{ ok: true; id: string } | { ok: false; why: "shape" | "checksum" }> {
  const [, of, id] = KEY.exec(key) ?? [];
  if (id === undefined || of !== kind) return { ok: false, why: "shape" };
  const expected = await checksum(keySecret, key.slice(0, -CHECKSUM_LENGTH));
  return sameText(expected, key.slice(-CHECKSUM_LENGTH)) ? { ok: true, id } : { ok: false, why: "checksum" };
}

/** The stored form of a key or token, hex. */
export async function keyedHash(keySecret: string, key: string): Promise<string> {
  return (await hmac(keySecret, "key-hash", key)).toHex();
}
