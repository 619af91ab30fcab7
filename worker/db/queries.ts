/** The D1 queries of the request path. Only this folder queries D1. */
import { and, eq, inArray, sql } from "drizzle-orm";
import type { Env } from "../env.ts";
import type { Service } from "../services/service.ts";
import type { Limits, Scope } from "../caller/tenant.ts";
import { BOUND_MAX, db } from "./base.ts";
import { answers, cards, keys, listings, results, services, tenants } from "./schema.ts";

export type CardRow = typeof cards.$inferSelect;
export type ListingRow = typeof listings.$inferSelect;
export type ServiceRow = Omit<typeof services.$inferSelect, "config"> & { config: Service };
export type ResultRow = typeof results.$inferSelect;
export type AnswerRow = typeof answers.$inferSelect;
export type TenantRow = Omit<typeof tenants.$inferSelect, "limits"> & { limits: Limits };
export type KeyRow = Omit<typeof keys.$inferSelect, "scopes"> & { scopes: Scope[] | null };

/** Maximum number of services in a deployment: every isolate holds the whole list. */
export const SERVICES_MAX = 1000;

const asService = (row: typeof services.$inferSelect) => row as ServiceRow;

/** All services, in no particular order. */
export async function allServices(env: Env): Promise<ServiceRow[]> {
  return (await db(env).select().from(services).limit(SERVICES_MAX)).map(asService);
}

export async function serviceById(env: Env, id: string): Promise<ServiceRow | null> {
  const row = await db(env).select().from(services).where(eq(services.id, id)).get();
  return row === undefined ? null : asService(row);
}

export async function cardsOfService(env: Env, serviceId: string): Promise<{ card: CardRow; listing: ListingRow }[]> {
  const rows = await db(env)
    .select()
    .from(listings)
    .innerJoin(cards, eq(cards.id, listings.cardId))
    .where(eq(listings.serviceId, serviceId));
  return rows.map((row) => ({ card: row.cards, listing: row.listings }));
}

export async function listingsOfCards(
  env: Env,
  cardIds: string[],
): Promise<{ listing: ListingRow; service: ServiceRow }[]> {
  if (cardIds.length > BOUND_MAX) throw new RangeError(`at most ${BOUND_MAX} cards at once`);
  if (cardIds.length === 0) return [];
  const rows = await db(env)
    .select()
    .from(listings)
    .innerJoin(services, eq(services.id, listings.serviceId))
    .where(inArray(listings.cardId, cardIds));
  return rows.map((row) => ({ listing: row.listings, service: asService(row.services) }));
}

/** A key and its tenant, by the key's public id. May be read from any replica: callers cache it for seconds anyway. */
export async function keyWithTenant(env: Env, id: string): Promise<{ key: KeyRow; tenant: TenantRow } | null> {
  const row = await db(env)
    .select()
    .from(keys)
    .innerJoin(tenants, eq(tenants.id, keys.tenantId))
    .where(eq(keys.id, id))
    .get();
  if (row === undefined) return null;
  return { key: row.keys as KeyRow, tenant: row.tenants as TenantRow };
}

export async function cardTokenHash(env: Env, cardId: string): Promise<string | null> {
  const row = await db(env).select({ hash: cards.tokenHash }).from(cards).where(eq(cards.id, cardId)).get();
  return row?.hash ?? null;
}

/** A result's digest (hex), by its id. */
export async function resultDigest(env: Env, id: string): Promise<string | null> {
  const row = await db(env).select({ sha256: results.sha256 }).from(results).where(eq(results.id, id)).get();
  return row?.sha256 || null;
}

/** Records finished results and the stored answers that contain them. Idempotent. */
export async function recordResults(env: Env, rows: ResultRow[], kept: AnswerRow[]): Promise<void> {
  const base = db(env);
  const set = { bytes: sql`excluded.bytes`, createdAt: sql`excluded.created_at`, expiresAt: sql`excluded.expires_at` };
  const [first, ...rest] = [
    ...chunksOf(rows).map((some) => base.insert(results).values(some).onConflictDoNothing()),
    ...chunksOf(kept).map((some) => base.insert(answers).values(some).onConflictDoUpdate({ target: answers.key, set })),
  ];
  if (first !== undefined) await base.batch([first, ...rest]);
}

/** Splits rows into chunks that fit the limit on bound parameters. */
function chunksOf<Row extends object>(rows: Row[]): Row[][] {
  const size = Math.floor(BOUND_MAX / Object.keys(rows[0] ?? {}).length);
  return Array.from({ length: Math.ceil(rows.length / size) || 0 }, (_, i) => rows.slice(i * size, (i + 1) * size));
}

/** Deletes the rows of this tenant's results and of answers that the tenant made. */
export async function forgetResults(env: Env, tenantId: string, ids: string[], answerKeys: string[]): Promise<void> {
  const base = db(env);
  const dropResults = base.delete(results).where(and(inArray(results.id, ids), eq(results.tenantId, tenantId)));
  if (answerKeys.length === 0) await dropResults;
  else
    await base.batch([
      dropResults,
      base.delete(answers).where(and(inArray(answers.key, answerKeys), eq(answers.tenantId, tenantId))),
    ]);
}
