/** Reads and writes of operators. */
import { asc, eq, sql } from "drizzle-orm";
import type { Env } from "../env.ts";
import { db } from "./base.ts";
import { type Change, commit, type Outcome } from "./commit.ts";
import { operators } from "./schema.ts";

export type OperatorRow = typeof operators.$inferSelect;
/** The columns that a change writes. `lastUsedAt` is not one of them. */
export type OperatorSettings = Omit<OperatorRow, "id" | "createdAt" | "createdBy" | "lastUsedAt">;

const sameOperator = ({ id, name, email, role, tokenHash, state, expiresAt }: OperatorRow) =>
  sql`EXISTS (SELECT 1 FROM operators WHERE id = ${id} AND name = ${name} AND email IS ${email} AND role = ${role}
   AND token_hash IS ${tokenHash} AND state = ${state} AND expires_at IS ${expiresAt})`;

export async function operatorById(env: Env, id: string): Promise<OperatorRow | null> {
  return (await db(env).select().from(operators).where(eq(operators.id, id)).get()) ?? null;
}

/** `email`: in lower case, as stored. */
export async function operatorByEmail(env: Env, email: string): Promise<OperatorRow | null> {
  return (await db(env).select().from(operators).where(eq(operators.email, email)).get()) ?? null;
}

export async function pageOfOperators(env: Env, at: [number, string] | null, limit: number): Promise<OperatorRow[]> {
  const later = at === null ? undefined : sql`(${operators.createdAt}, ${operators.id}) > (${at[0]}, ${at[1]})`;
  return db(env)
    .select()
    .from(operators)
    .where(later)
    .orderBy(asc(operators.createdAt), asc(operators.id))
    .limit(limit + 1);
}

export function createOperator(env: Env, row: OperatorRow, change: Change): Promise<Outcome> {
  return commit(env, change, sql`1`, (base) => [base.insert(operators).values(row)]);
}

export function changeOperator(
  env: Env,
  before: OperatorRow,
  after: Partial<OperatorSettings>,
  change: Change,
): Promise<Outcome> {
  return commit(env, change, sameOperator(before), (base) => [
    base.update(operators).set(after).where(eq(operators.id, before.id)),
  ]);
}
