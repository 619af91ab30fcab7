/**
 * Authentication for the admin API: operators with a role, by token or through Cloudflare Access, and card agents by
 * the card's own token. Tokens are compared as keyed hashes in constant time.
 */
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { assertionIn, identityIn, refuseForeignPage } from "../caller/access.ts";
import { guess, hasCredential } from "../auth.ts";
import { operatorByEmail, operatorById, type OperatorRow } from "../db/operator-queries.ts";
import { cardTokenHash } from "../db/queries.ts";
import { type AccessApp, config, type Env } from "../env.ts";
import { detail } from "../details.ts";
import { keyedHash, randomText, readKey, sameText } from "../caller/keys.ts";
import { isRefusal, refuse, type Refusal } from "../refusal.ts";

/** An operator's role, in ascending order: each includes those before it. */
export const Role = z.enum(["read", "ops", "admin"]);
export type Role = z.infer<typeof Role>;
const ROLES = Role.options;

export interface Operator {
  /** Null: the admin token, which has no row. */
  id: string | null;
  /** The actor in the audit log. */
  name: string;
  role: Role;
}

export const ADMIN: Operator = { id: null, name: "admin", role: "admin" };

/**
 * How long an isolate caches an operator's row. Together with replication lag this keeps a revoked operator out within
 * 10 s.
 */
const OPERATOR_MS = 5_000;
const OPERATORS_MAX = 1_000;

const operators = new LRUCache<string, { row: OperatorRow | null }>({
  max: OPERATORS_MAX,
  ttl: OPERATOR_MS,
  ttlResolution: 0,
  perf: Date,
});

const CARD_TOKEN = /^ptc_[0-9A-Za-z]{40}$/;

/** Creates a card agent's token: shown once, stored as a keyed hash. */
export async function makeCardToken(env: Env): Promise<{ token: string; hash: string }> {
  const token = `ptc_${randomText(40)}`;
  return { token, hash: await keyedHash(config(env).keySecret, token) };
}

/**
 * Returns the operator who sent the request: by token, or, if the request has no credential, by the assertion of
 * Cloudflare Access. A credential decides even if it is wrong. A tenant's key is treated like an unknown token.
 * Refusals: 401, 429 `address`, and 403 `role` for someone whom Access knows but who is not an operator. Without an
 * admin token configured there are no operators.
 */
export async function operatorOf(env: Env, request: Request): Promise<Operator | Refusal> {
  const operator = await identified(env, request);
  return isRefusal(operator) ? aboutTokens(operator) : operator;
}

async function identified(env: Env, request: Request): Promise<Operator | Refusal> {
  const { accessApp } = config(env);
  const assertion = accessApp === null || hasCredential(request) ? null : assertionIn(request.headers);
  if (accessApp !== null && assertion !== null) return throughAccess(env, accessApp, assertion, request);
  const token = bearer(request.headers);
  return typeof token === "string" ? byToken(env, token, request) : token;
}

/** Makes the refusal's message speak of tokens instead of API keys. */
function aboutTokens(refusal: Refusal): Refusal {
  return { ...refusal, facts: { ...refusal.facts, credential: "token" } };
}

async function byToken(env: Env, token: string, request: Request): Promise<Operator | Refusal> {
  const { adminToken, keySecret } = config(env);
  if (adminToken === null) return refuse("unknown");
  const [given, admins] = await Promise.all([keyedHash(keySecret, token), keyedHash(keySecret, adminToken)]);
  if (sameText(given, admins)) return ADMIN;
  const read = await readKey(keySecret, "pto", token);
  if (!read.ok) return read.why === "shape" ? refuse("unknown") : guess(request, env);
  const row = await cachedOperator(`id ${read.id}`, () => operatorById(env, read.id));
  return row === null ? refuse("unknown") : (refuseToken(row, given) ?? activeOperator(row));
}

/** Null if the hash is of the operator's token, or of the previous one during its overlap. */
function refuseToken({ tokenHash, earlierHash, earlierUntil }: OperatorRow, given: string): Refusal | null {
  const [now, earlier] = [sameText(given, tokenHash ?? ""), sameText(given, earlierHash ?? "")];
  if (now) return null;
  if (!earlier) return refuse("unknown");
  return Date.now() < (earlierUntil ?? 0) ? null : refuse("revoked");
}

async function throughAccess(
  env: Env,
  app: AccessApp,
  assertion: string,
  request: Request,
): Promise<Operator | Refusal> {
  if (config(env).adminToken === null) return refuse("unknown");
  const email = await identityIn(app, assertion);
  if (isRefusal(email)) return email;
  const row = await cachedOperator(`email ${email}`, () => operatorByEmail(env, email));
  if (row === null) return refuse("role", { facts: detail("no_operator") });
  return refuseForeignPage(request) ?? activeOperator(row);
}

function activeOperator({ id, name, role, state, expiresAt }: OperatorRow): Operator | Refusal {
  if (state !== "active") return refuse("revoked");
  return expiresAt !== null && expiresAt <= Date.now() ? refuse("expired") : { id, name, role };
}

/** Reads an operator's row through the cache. */
async function cachedOperator(by: string, look: () => Promise<OperatorRow | null>): Promise<OperatorRow | null> {
  const known = operators.get(by);
  if (known !== undefined) return known.row;
  const row = await look();
  operators.set(by, { row });
  return row;
}

/** Clears this isolate's cache of operators; called after a change to one. */
export function forgetOperators(): void {
  operators.clear();
}

/** Null if the operator has this role or a higher one. */
export function mayAct(operator: Operator, role: Role): Refusal | null {
  if (ROLES.indexOf(operator.role) >= ROLES.indexOf(role)) return null;
  return refuse("role", { facts: detail("role", { role }) });
}

/** Null if the request carries this card's own token. An unknown card is answered like a wrong token. */
export async function refuseOtherCard(env: Env, headers: Headers, card: string): Promise<Refusal | null> {
  const token = bearer(headers);
  if (typeof token !== "string") return aboutTokens(token);
  if (!CARD_TOKEN.test(token)) return aboutTokens(refuse("malformed", { facts: detail("not_a_card_token") }));
  const [given, known] = await Promise.all([keyedHash(config(env).keySecret, token), cardTokenHash(env, card)]);
  return known !== null && sameText(given, known) ? null : aboutTokens(refuse("unknown"));
}

/**
 * The token of `Authorization: Bearer T` (RFC 6750). A second, different credential makes the request ambiguous and is
 * refused.
 */
function bearer(headers: Headers): string | Refusal {
  const authorization = headers.get("authorization");
  const other = headers.get("x-api-key");
  if (authorization === null && other === null) return refuse("missing");
  const token = /^Bearer +([^\s,]+)$/i.exec(authorization ?? "")?.[1];
  if (token === undefined) return refuse("malformed", { facts: detail("bearer") });
  if (other !== null && other !== token) return refuse("malformed", { facts: detail("two_credentials") });
  return token;
}
