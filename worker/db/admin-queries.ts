/**
 * What operators change in D1. Every change is one batch, which D1 runs as one transaction: first its audit row, which
 * checks that what the change was computed from still stands and takes the whole batch down when it does not.
 *
 * Always: versions of services and cards only grow; a change of a card or of a listing bumps the card and every service
 * that lists it, a change of a service bumps the service and every card it lists. No secret reaches the audit log.
 */
import { and, eq, inArray, lte, type SQL, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import type { Env } from "../env.ts";
import type { Limits, Scope, Service } from "../service.ts";
import type { CardRow, KeyRow, ListingRow, ServiceRow, TenantRow } from "./queries.ts";
import { answers, audit, cards, keys, listings, results, services, tenants } from "./schema.ts";

/** What the audit log keeps of a change. */
export interface Change {
  actor: string;
  /** `service.put`, `key.revoke`, ... */
  action: string;
  target: string;
  before: object | null;
  after: object | null;
  requestId: string;
}

/** `stale`: what the change was computed from has changed meanwhile; read again. `taken`: another service has the route. */
export type Outcome = "done" | "stale" | "taken";

type Base = DrizzleD1Database & { $client: D1Database };
type Write = BatchItem<"sqlite">;

const db = (env: Env): Base => drizzle(env.DB);

async function commit(env: Env, change: Change, unchanged: SQL, writes: (base: Base) => Write[]): Promise<Outcome> {
  const base = db(env);
  const { action, target, before, after, requestId } = change;
  // The actor may not be null, so a stale change fails here and D1 rolls the batch back.
  const actor = sql<string>`CASE WHEN ${unchanged} THEN ${change.actor} END`;
  const row = base.insert(audit).values({ at: Date.now(), actor, action, target, before, after, requestId });
  try {
    await base.batch([row, ...writes(base)]);
    return "done";
  } catch (error) {
    const said = causes(error);
    if (said.includes("NOT NULL constraint failed: audit.actor")) return "stale";
    if (said.includes("UNIQUE constraint failed: services.route")) return "taken";
    throw error;
  }
}

function causes(error: unknown): string {
  return error instanceof Error ? `${error.message}\n${causes(error.cause)}` : "";
}

const grown = (column: typeof services.version | typeof cards.version) => sql<number>`max(${Date.now()}, ${column} + 1)`;

const sameService = (id: string, before: ServiceRow | null) =>
  sql`(SELECT config FROM services WHERE id = ${id}) IS ${before === null ? null : JSON.stringify(before.config)}`;

const sameCard = (id: string, before: CardRow | null) => sql`(SELECT version FROM cards WHERE id = ${id}) IS ${before?.version ?? null}`;

const bumpCardsOf = (base: Base, serviceId: string) =>
  base
    .update(cards)
    .set({ version: grown(cards.version) })
    .where(inArray(cards.id, base.select({ id: listings.cardId }).from(listings).where(eq(listings.serviceId, serviceId))));

const bumpServicesOf = (base: Base, cardId: string) =>
  base
    .update(services)
    .set({ version: grown(services.version) })
    .where(inArray(services.id, base.select({ id: listings.serviceId }).from(listings).where(eq(listings.cardId, cardId))));

// ------------------------------------------------------------------------------------------------------- services

export function putService(env: Env, id: string, before: ServiceRow | null, config: Service, change: Change): Promise<Outcome> {
  return commit(env, change, sameService(id, before), (base) => {
    const now = Date.now();
    const row = { id, route: config.route, config, paused: false, version: now, createdAt: now };
    const set = { route: config.route, config, version: grown(services.version) };
    return [base.insert(services).values(row).onConflictDoUpdate({ target: services.id, set }), bumpCardsOf(base, id)];
  });
}

export function setPaused(env: Env, before: ServiceRow, paused: boolean, change: Change): Promise<Outcome> {
  return commit(env, change, sql`(SELECT paused FROM services WHERE id = ${before.id}) IS ${Number(before.paused)}`, (base) => [
    base.update(services).set({ paused, version: grown(services.version) }).where(eq(services.id, before.id)),
    bumpCardsOf(base, before.id),
  ]);
}

export function deleteService(env: Env, before: ServiceRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameService(before.id, before), (base) => [
    bumpCardsOf(base, before.id),
    base.delete(listings).where(eq(listings.serviceId, before.id)),
    base.delete(services).where(eq(services.id, before.id)),
  ]);
}

// ---------------------------------------------------------------------------------------------- cards and listings

/** Lists a card, and creates it when `before` is null. */
export function putListing(env: Env, before: CardRow | null, card: CardRow, listing: ListingRow, change: Change): Promise<Outcome> {
  const serviceStands = sql`EXISTS (SELECT 1 FROM services WHERE id = ${listing.serviceId})`;
  return commit(env, change, sql`${sameCard(card.id, before)} AND ${serviceStands}`, (base) => {
    const { server, gpu, slots, state } = card;
    const set = { server, gpu, slots, state, version: grown(cards.version) };
    const { origin, transport, weight } = listing;
    return [
      base.insert(cards).values(card).onConflictDoUpdate({ target: cards.id, set }),
      base
        .insert(listings)
        .values(listing)
        .onConflictDoUpdate({ target: [listings.serviceId, listings.cardId], set: { origin, transport, weight } }),
      bumpServicesOf(base, card.id),
    ];
  });
}

export function deleteListing(env: Env, card: CardRow, listing: ListingRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameCard(card.id, card), (base) => [
    bumpServicesOf(base, card.id),
    base.update(cards).set({ version: grown(cards.version) }).where(eq(cards.id, card.id)),
    base.delete(listings).where(sql`${listings.serviceId} = ${listing.serviceId} AND ${listings.cardId} = ${card.id}`),
  ]);
}

export function patchCard(env: Env, before: CardRow, after: CardRow, change: Change): Promise<Outcome> {
  const { server, gpu, slots, state } = after;
  return commit(env, change, sameCard(before.id, before), (base) => [
    base.update(cards).set({ server, gpu, slots, state, version: grown(cards.version) }).where(eq(cards.id, before.id)),
    bumpServicesOf(base, before.id),
  ]);
}

/** The objects know no tokens, so versions stay. */
export function setCardToken(env: Env, before: CardRow, tokenHash: string, change: Change): Promise<Outcome> {
  return commit(env, change, sameCard(before.id, before), (base) => [base.update(cards).set({ tokenHash }).where(eq(cards.id, before.id))]);
}

// ------------------------------------------------------------------------------------------------- tenants and keys

const sameTenant = ({ id, name, limits, weight, state }: TenantRow) =>
  sql`EXISTS (SELECT 1 FROM tenants WHERE id = ${id} AND name = ${name} AND limits = ${JSON.stringify(limits)}
   AND weight = ${weight} AND state = ${state})`;

const sameKey = (before: KeyRow) => sql`(SELECT state FROM keys WHERE id = ${before.id}) IS ${before.state}`;

export function createTenant(env: Env, row: TenantRow, change: Change): Promise<Outcome> {
  return commit(env, change, sql`1`, (base) => [base.insert(tenants).values(row)]);
}

export interface TenantSettings {
  name: string;
  limits: Limits;
  weight: number;
  state: TenantRow["state"];
}

export function patchTenant(env: Env, before: TenantRow, after: TenantSettings, change: Change): Promise<Outcome> {
  return commit(env, change, sameTenant(before), (base) => [base.update(tenants).set(after).where(eq(tenants.id, before.id))]);
}

/** The first step of a deletion: from here on no key opens the tenant's door, while its results are removed. */
export function closeTenant(env: Env, before: TenantRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameTenant(before), (base) => [
    base.delete(keys).where(eq(keys.tenantId, before.id)),
    base.update(tenants).set({ state: "disabled" }).where(eq(tenants.id, before.id)),
  ]);
}

/** Forgets up to `limit` of a tenant's results, and its stored answers up to this key; whether results are left. */
export async function forgetResultsOf(env: Env, tenantId: string, limit: number, lastAnswer: string): Promise<boolean> {
  const base = db(env);
  const some = base.select({ id: results.id }).from(results).where(eq(results.tenantId, tenantId)).limit(limit);
  const [forgotten] = await base.batch([
    base.delete(results).where(inArray(results.id, some)),
    base.delete(answers).where(and(eq(answers.tenantId, tenantId), lte(answers.key, lastAnswer))),
  ]);
  return forgotten.meta.changes === limit;
}

/** The last step: the tenant itself, and keys that were made meanwhile. */
export async function deleteTenant(env: Env, tenantId: string): Promise<void> {
  const base = db(env);
  await base.batch([base.delete(keys).where(eq(keys.tenantId, tenantId)), base.delete(tenants).where(eq(tenants.id, tenantId))]);
}

export function createKey(env: Env, row: KeyRow, change: Change): Promise<Outcome> {
  const tenantStands = sql`EXISTS (SELECT 1 FROM tenants WHERE id = ${row.tenantId})`;
  return commit(env, change, tenantStands, (base) => [base.insert(keys).values(row)]);
}

export interface KeySettings {
  name: string | null;
  scopes: Scope[] | null;
  services: string[] | null;
  expiresAt: number | null;
  state: KeyRow["state"];
  revokedAt: number | null;
}

/** Changes a key; with `next` it is the key that the changed one was rotated to. */
export function patchKey(env: Env, before: KeyRow, after: KeySettings, next: KeyRow | null, change: Change): Promise<Outcome> {
  return commit(env, change, sameKey(before), (base) => [
    base.update(keys).set(after).where(eq(keys.id, before.id)),
    ...(next === null ? [] : [base.insert(keys).values(next)]),
  ]);
}
