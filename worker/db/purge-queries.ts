/** Queries on the rows of R2 objects: by filter, for removal, and in key order, for comparison with R2. */
import { and, asc, count, eq, gt, lt, lte, type SQL, sql, sum } from "drizzle-orm";
import type { Env } from "../env.ts";
import { db } from "./base.ts";
import { type Change, commit } from "./commit.ts";
import { answers, results } from "./schema.ts";

/** All given conditions must hold. */
export interface Filter {
  tenant?: string | undefined;
  service?: string | undefined;
  model_version?: string | undefined;
  /** Expired by this time, ms since the epoch. */
  over?: number;
}

/** The row of one R2 object. `key`: a result's id, or an answer's key. */
export interface KeptRow {
  key: string;
  bytes: number;
}

/** Which of the two tables. */
export type Kept = "results" | "answers";

/** Number and total size of rows. */
export interface Amount {
  count: number;
  bytes: number;
}

function where(table: typeof results | typeof answers, { tenant, service, model_version, over }: Filter): SQL {
  const given = [
    tenant === undefined ? undefined : eq(table.tenantId, tenant),
    service === undefined ? undefined : eq(table.serviceId, service),
    model_version === undefined ? undefined : eq(table.modelVersion, model_version),
    over === undefined ? undefined : lte(table.expiresAt, over),
  ];
  const all = and(...given);
  if (all === undefined) throw new RangeError("a filter that holds for everything");
  return all;
}

/** Passes a list of keys as one JSON parameter, since it may exceed the parameter limit. */
const among = (keys: string[]) => sql`(SELECT value FROM json_each(${JSON.stringify(keys)}))`;

/** Answers that contain these results: their tenants' own, and shared ones that these tenants made. */
const holding = (some: SQL): SQL =>
  sql`(${answers.key}, ${answers.tenantId}) IN (
    SELECT answer_key, tenant_id FROM results WHERE ${some}
    UNION ALL
    SELECT 'shared' || substr(answer_key, instr(answer_key, '/')), tenant_id FROM results WHERE ${some})`;

export function resultsMatching(env: Env, filter: Filter, limit: number): Promise<KeptRow[]> {
  const rows = db(env).select({ key: results.id, bytes: results.bytes }).from(results);
  return rows.where(where(results, filter)).limit(limit);
}

/** Returns those of these results that have a row. */
export async function knownResults(env: Env, ids: string[]): Promise<string[]> {
  const rows = db(env).select({ id: results.id }).from(results);
  return (await rows.where(sql`${results.id} IN ${among(ids)}`)).map(({ id }) => id);
}

export function answersMatching(env: Env, filter: Filter, limit: number): Promise<KeptRow[]> {
  const rows = db(env).select({ key: answers.key, bytes: answers.bytes }).from(answers);
  return rows.where(where(answers, filter)).limit(limit);
}

export function answersHolding(env: Env, ids: string[]): Promise<KeptRow[]> {
  const rows = db(env).select({ key: answers.key, bytes: answers.bytes }).from(answers);
  return rows.where(holding(sql`${results.id} IN ${among(ids)}`));
}

/** Counts matching results, and answers: with `held` those that contain the results, otherwise those that match. */
export async function countMatching(
  env: Env,
  filter: Filter,
  of: "matching" | "held",
): Promise<{ results: Amount; answers: Amount }> {
  const base = db(env);
  const condition = of === "held" ? holding(where(results, filter)) : where(answers, filter);
  const [[r], [a]] = await base.batch([
    base
      .select({ count: count(), bytes: sum(results.bytes) })
      .from(results)
      .where(where(results, filter)),
    base
      .select({ count: count(), bytes: sum(answers.bytes) })
      .from(answers)
      .where(condition),
  ]);
  return { results: amountOf(r), answers: amountOf(a) };
}

function amountOf(row: { count: number; bytes: string | null } | undefined): Amount {
  return { count: row?.count ?? 0, bytes: Number(row?.bytes ?? 0) };
}

/** Deletes these rows. An answer stored again after `seenAt` (ms since the epoch) keeps its row. */
export async function forgetKept(env: Env, ids: string[], keys: string[], seenAt: number): Promise<void> {
  const base = db(env);
  await base.batch([
    base.delete(results).where(sql`${results.id} IN ${among(ids)}`),
    base.delete(answers).where(and(sql`${answers.key} IN ${among(keys)}`, lte(answers.createdAt, seenAt))),
  ]);
}

/** Result ids or answer keys between `from` and `to`, both exclusive, in order. */
export async function keysBetween(
  env: Env,
  of: Kept,
  from: string,
  to: string | null,
  limit: number,
): Promise<string[]> {
  const [table, key] = of === "results" ? [results, results.id] : [answers, answers.key];
  const rows = db(env)
    .select({ key })
    .from(table)
    .where(and(gt(key, from), to === null ? undefined : lt(key, to)));
  return (await rows.orderBy(asc(key)).limit(limit)).map((row) => row.key);
}

/** Writes only an audit row, for a change of many rows. */
export async function noteChange(env: Env, change: Change): Promise<void> {
  await commit(env, change, sql`1`, () => []);
}
