/**
 * Reads for operators: single rows, and pages in an order that new rows do not disturb. A page query returns one row
 * more than asked for, to show whether there is a next page.
 */
import { and, asc, count, desc, eq, gt, gte, inArray, lt, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import type { Env } from "../env.ts";
import { BOUND_MAX, db } from "./base.ts";
import type { CardRow, KeyRow, ListingRow, ServiceRow, TenantRow } from "./queries.ts";
import { audit, cards, keys, listings, services, tenants } from "./schema.ts";

export type AuditRow = typeof audit.$inferSelect;

/** Maximum number of cards in a deployment: the cluster status calls every one of them. */
export const CARDS_MAX = 2000;

export async function cardById(env: Env, id: string): Promise<CardRow | null> {
  return (await db(env).select().from(cards).where(eq(cards.id, id)).get()) ?? null;
}

export async function cardsByIds(env: Env, ids: string[]): Promise<CardRow[]> {
  return inTurns(ids, (some) => db(env).select().from(cards).where(inArray(cards.id, some)));
}

/** Runs a query for many ids, in chunks that D1 accepts. */
async function inTurns<Row>(ids: string[], rowsOf: (some: string[]) => Promise<Row[]>): Promise<Row[]> {
  const rows: Row[] = [];
  for (let i = 0; i < ids.length; i += BOUND_MAX) rows.push(...(await rowsOf(ids.slice(i, i + BOUND_MAX))));
  return rows;
}

export async function tenantById(env: Env, id: string): Promise<TenantRow | null> {
  return ((await db(env).select().from(tenants).where(eq(tenants.id, id)).get()) as TenantRow | undefined) ?? null;
}

export async function keyById(env: Env, id: string): Promise<KeyRow | null> {
  return ((await db(env).select().from(keys).where(eq(keys.id, id)).get()) as KeyRow | undefined) ?? null;
}

/** The key created by this key's first rotation. */
export async function firstSuccessor(env: Env, { id, tenantId }: KeyRow): Promise<KeyRow | null> {
  const mine = and(eq(keys.tenantId, tenantId), eq(keys.rotatedFrom, id));
  const found = await db(env).select().from(keys).where(mine).orderBy(keys.createdAt).limit(1).get();
  return (found as KeyRow | undefined) ?? null;
}

export async function countServices(env: Env): Promise<number> {
  return (await db(env).select({ n: count() }).from(services).get())?.n ?? 0;
}

export async function countCards(env: Env): Promise<number> {
  return (await db(env).select({ n: count() }).from(cards).get())?.n ?? 0;
}

/** Listings of these cards, or of these services. */
export async function listingsOf(env: Env, by: "card" | "service", ids: string[]): Promise<ListingRow[]> {
  const column = by === "card" ? listings.cardId : listings.serviceId;
  const order = [asc(listings.serviceId), asc(listings.cardId)];
  return inTurns(ids, (some) =>
    db(env)
      .select()
      .from(listings)
      .where(inArray(column, some))
      .orderBy(...order),
  );
}

/** Everything the cluster status is computed from: services, and the cards they list. */
export async function park(env: Env): Promise<{ services: string[]; cards: CardRow[]; listings: ListingRow[] }> {
  const base = db(env);
  const [known, listed, every] = await base.batch([
    base.select({ id: services.id }).from(services).orderBy(asc(services.id)),
    base
      .select()
      .from(cards)
      .where(inArray(cards.id, base.select({ id: listings.cardId }).from(listings)))
      .orderBy(asc(cards.id))
      .limit(CARDS_MAX),
    base.select().from(listings),
  ]);
  return { services: known.map((row) => row.id), cards: listed, listings: every };
}

const after = (column: SQLiteColumn, value: string | number | undefined): SQL | undefined =>
  value === undefined ? undefined : gt(column, value);

/** Rows after (createdAt, id); ids are random, so they do not give the order alone. */
const afterBirth = (t: typeof tenants | typeof keys, at: [number, string] | null): SQL | undefined =>
  at === null ? undefined : sql`(${t.createdAt}, ${t.id}) > (${at[0]}, ${at[1]})`;

export async function pageOfServices(env: Env, at: [string] | null, limit: number): Promise<ServiceRow[]> {
  const rows = db(env).select().from(services).where(after(services.id, at?.[0]));
  return (await rows.orderBy(asc(services.id)).limit(limit + 1)) as ServiceRow[];
}

/** Cards after `at`, or from `at` on. */
export async function pageOfCards(
  env: Env,
  at: string | undefined,
  from: "after" | "from",
  limit: number,
): Promise<CardRow[]> {
  const where = at === undefined || from === "after" ? after(cards.id, at) : gte(cards.id, at);
  return db(env)
    .select()
    .from(cards)
    .where(where)
    .orderBy(asc(cards.id))
    .limit(limit + 1);
}

export async function pageOfTenants(env: Env, at: [number, string] | null, limit: number): Promise<TenantRow[]> {
  const rows = db(env).select().from(tenants).where(afterBirth(tenants, at));
  return (await rows.orderBy(asc(tenants.createdAt), asc(tenants.id)).limit(limit + 1)) as TenantRow[];
}

export async function pageOfKeys(
  env: Env,
  tenantId: string | undefined,
  at: [number, string] | null,
  limit: number,
): Promise<KeyRow[]> {
  const own = tenantId === undefined ? undefined : eq(keys.tenantId, tenantId);
  const rows = db(env)
    .select()
    .from(keys)
    .where(and(own, afterBirth(keys, at)));
  return (await rows.orderBy(asc(keys.createdAt), asc(keys.id)).limit(limit + 1)) as KeyRow[];
}

/** Newest change first. */
export async function pageOfAudit(
  env: Env,
  target: string | undefined,
  at: [number] | null,
  limit: number,
): Promise<AuditRow[]> {
  const own = target === undefined ? undefined : eq(audit.target, target);
  const older = at === null ? undefined : lt(audit.id, at[0]);
  return db(env)
    .select()
    .from(audit)
    .where(and(own, older))
    .orderBy(desc(audit.id))
    .limit(limit + 1);
}
