/**
 * Who may run the deployment: an operator by bearer token, with a role; and a card's agent by the card's own token.
 * Tokens are compared as keyed hashes in constant time, and neither a token nor a hash leaves this file.
 */
import { cardTokenHash } from "../db/queries.ts";
import { config, type Env } from "../env.ts";
import { keyedHash, randomText, sameText } from "../keys.ts";
import { refuse, type Refusal } from "../refusal.ts";

/** What an operator may do; each role may do what stands before it too. */
export const ROLES = ["read", "ops", "admin"] as const;
export type Role = (typeof ROLES)[number];

export interface Operator {
  /** Stands as the actor in the audit log. */
  name: string;
  role: Role;
}

const CARD_TOKEN = /^ptc_[0-9A-Za-z]{40}$/;

/** A card agent's token: shown once, stored as a keyed hash. */
export async function makeCardToken(env: Env): Promise<{ token: string; hash: string }> {
  const token = `ptc_${randomText(40)}`;
  return { token, hash: await keyedHash(config(env).keySecret, token) };
}

/** The operator behind a request. A tenant's key is as unknown here as a guess. */
export async function operatorOf(env: Env, headers: Headers): Promise<Operator | Refusal> {
  const token = bearer(headers);
  if (typeof token !== "string") return token;
  const { adminToken, keySecret } = config(env);
  if (adminToken === null) return refuse("unknown");
  const [given, known] = await Promise.all([keyedHash(keySecret, token), keyedHash(keySecret, adminToken)]);
  return sameText(given, known) ? { name: "admin", role: "admin" } : refuse("unknown");
}

export function mayAct(operator: Operator, role: Role): boolean {
  return ROLES.indexOf(operator.role) >= ROLES.indexOf(role);
}

/** Null when the request carries this card's own token. A card that does not exist answers like a wrong token. */
export async function refuseOtherCard(env: Env, headers: Headers, card: string): Promise<Refusal | null> {
  const token = bearer(headers);
  if (typeof token !== "string") return token;
  if (!CARD_TOKEN.test(token)) return refuse("malformed", { facts: { detail: "not a card's token" } });
  const [given, known] = await Promise.all([keyedHash(config(env).keySecret, token), cardTokenHash(env, card)]);
  return known !== null && sameText(given, known) ? null : refuse("unknown");
}

/** The token of `Authorization: Bearer T` (RFC 6750); another credential beside it makes it unclear who asks. */
function bearer(headers: Headers): string | Refusal {
  const authorization = headers.get("authorization");
  const other = headers.get("x-api-key");
  if (authorization === null && other === null) return refuse("missing");
  const token = /^Bearer +([^\s,]+)$/i.exec(authorization ?? "")?.[1];
  if (token === undefined)
    return refuse("malformed", { facts: { detail: "'Authorization: Bearer <token>' is needed here" } });
  if (other !== null && other !== token) return refuse("malformed", { facts: { detail: "two different credentials" } });
  return token;
}
