/** Writes of tenants and their keys by operators, and the last use of keys and operators. */
import { and, eq, isNull, lt, or, sql } from "drizzle-orm";
import type { Env } from "../env.ts";
import type { Credential } from "../caller/last-use.ts";
import type { Limits, Scope } from "../caller/tenant.ts";
import { db } from "./base.ts";
import { type Change, commit, type Outcome } from "./commit.ts";
import type { KeyRow, TenantRow } from "./queries.ts";
import { keys, operators, tenants } from "./schema.ts";

const sameTenant = ({ id, name, limits, weight, origins, state }: TenantRow) =>
  sql`EXISTS (SELECT 1 FROM tenants WHERE id = ${id} AND name = ${name} AND limits = ${JSON.stringify(limits)}
   AND weight = ${weight} AND origins = ${JSON.stringify(origins)} AND state = ${state})`;

const json = (value: unknown) => (value === null ? null : JSON.stringify(value));

const sameKey = ({ id, name, scopes, services, expiresAt, state }: KeyRow) =>
  sql`EXISTS (SELECT 1 FROM keys WHERE id = ${id} AND name IS ${name} AND scopes IS ${json(scopes)}
   AND services IS ${json(services)} AND expires_at IS ${expiresAt} AND state = ${state})`;

export function createTenant(env: Env, row: TenantRow, change: Change): Promise<Outcome> {
  return commit(env, change, sql`1`, (base) => [base.insert(tenants).values(row)]);
}

export interface TenantSettings {
  name: string;
  limits: Limits;
  weight: number;
  origins: string[];
  state: TenantRow["state"];
}

export function patchTenant(env: Env, before: TenantRow, after: TenantSettings, change: Change): Promise<Outcome> {
  return commit(env, change, sameTenant(before), (base) => [
    base.update(tenants).set(after).where(eq(tenants.id, before.id)),
  ]);
}

/** First step of a deletion: deletes the keys and disables the tenant, so that it is unusable during the removal. */
export function closeTenant(env: Env, before: TenantRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameTenant(before), (base) => [
    base.delete(keys).where(eq(keys.tenantId, before.id)),
    base.update(tenants).set({ state: "disabled" }).where(eq(tenants.id, before.id)),
  ]);
}

/** Last step: deletes the tenant, and any keys created meanwhile. */
export async function deleteTenant(env: Env, tenantId: string): Promise<void> {
  const base = db(env);
  await base.batch([
    base.delete(keys).where(eq(keys.tenantId, tenantId)),
    base.delete(tenants).where(eq(tenants.id, tenantId)),
  ]);
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

/** Changes a key. `next`: the new key, when this one is being rotated. */
export function patchKey(
  env: Env,
  before: KeyRow,
  after: KeySettings,
  next: KeyRow | null,
  change: Change,
): Promise<Outcome> {
  return commit(env, change, sameKey(before), (base) => [
    base.update(keys).set(after).where(eq(keys.id, before.id)),
    ...(next === null ? [] : [base.insert(keys).values(next)]),
  ]);
}

/** Never moves the time back: isolates report their uses in no particular order. */
export async function setLastUse(env: Env, { of, id }: Credential, at: number): Promise<void> {
  const table = of === "key" ? keys : operators;
  await db(env)
    .update(table)
    .set({ lastUsedAt: at })
    .where(and(eq(table.id, id), or(isNull(table.lastUsedAt), lt(table.lastUsedAt, at))));
}
