/**
 * Compares R2 with its rows in D1: an object without a row would never expire, and a row without an object is listed in
 * vain. Rows are read before objects, and objects are written before their rows (for large results the row is written
 * both before and after), so concurrent changes are not mistaken for losses. Objects younger than an hour do not count
 * as orphans.
 */
import { forgetKept, type Kept, keysBetween } from "../db/purge-queries.ts";
import { recordResults, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { answerRowOf, resultRowOf } from "./remake.ts";
import { RESULTS } from "./result.ts";
import { stretch } from "./stretch.ts";

/** The row of a younger object may not have been written yet. */
const YOUNG_MS = 3_600_000;
/** Objects, and rows, per page. */
const PAGE_KEYS = 500;
/** Pages per call. */
const PAGES_MAX = 10;

/** Only these keys are ours to check. */
const KEPT = /^(?:results\/|[^/]+\/answers\/)/;

interface Area {
  /** Prefix of the objects' keys. */
  prefix: string;
  of: Kept;
  /** The part of an object's key that its row's key lacks. */
  unsaid: string;
  /** First key after this area's rows; null when the area has the table to itself. */
  end: string | null;
}

/** Where objects with rows are, in key order. */
const AREAS: Area[] = [
  { prefix: RESULTS, of: "results", unsaid: RESULTS, end: null },
  { prefix: "shared/answers/", of: "answers", unsaid: "", end: "shared/answers0" },
  { prefix: "ten_", of: "answers", unsaid: "", end: "ten`" },
];

/** Where a walk continues: the area, and the last key done. */
export type InventoryPosition = [area: number, after: string];

export interface Inventory {
  compared: number;
  /** Objects without a row, and rows without an object. */
  orphans: number;
  missing: number;
  /** Repairs: rows restored from their objects, objects and rows removed. */
  restored: number;
  removed_objects: number;
  removed_rows: number;
}

/** Compares from a position on, as far as one call goes. `next` is null when everything has been compared. */
export async function takeInventory(
  env: Env,
  from: InventoryPosition,
  mend: boolean,
  pageKeys = PAGE_KEYS,
): Promise<{ found: Inventory; next: InventoryPosition | null }> {
  const found: Inventory = { compared: 0, orphans: 0, missing: 0, restored: 0, removed_objects: 0, removed_rows: 0 };
  let [area, after] = from;
  for (let page = 0; page < PAGES_MAX; page++) {
    const at = AREAS[area];
    if (at === undefined) return { found, next: null };
    const behind = await comparePage(env, at, after === "" ? at.prefix : after, mend, pageKeys, found);
    if (behind === null) area++;
    after = behind ?? "";
  }
  return { found, next: AREAS[area] === undefined ? null : [area, after] };
}

async function comparePage(
  env: Env,
  { prefix, of, unsaid, end }: Area,
  after: string,
  mend: boolean,
  limit: number,
  found: Inventory,
): Promise<string | null> {
  const seenAt = Date.now();
  const rows = await keysBetween(env, of, after.slice(unsaid.length), end, limit);
  const include: R2ListOptions["include"] = ["httpMetadata", "customMetadata"];
  const listed = await env.RESULTS.list({ prefix, startAfter: after, limit, include });
  const { left, right, compared, next } = stretch(
    { items: listed.objects, more: listed.truncated },
    { items: rows.map((key) => ({ key: unsaid + key })), more: rows.length === limit },
  );
  const orphans = left.filter(({ key, uploaded }) => KEPT.test(key) && seenAt - uploaded.getTime() > YOUNG_MS);
  found.compared += compared;
  found.orphans += orphans.length;
  found.missing += right.length;
  if (!mend) return next;
  await mendOrphans(env, orphans, of, seenAt, found);
  const keys = right.map(({ key }) => key.slice(unsaid.length));
  await forgetKept(env, of === "results" ? keys : [], of === "answers" ? keys : [], seenAt);
  found.removed_rows += keys.length;
  return next;
}

/** Restores the rows of orphans from their metadata. Deletes only orphans that have expired or lack the metadata. */
async function mendOrphans(env: Env, orphans: R2Object[], of: Kept, now: number, found: Inventory): Promise<void> {
  const results: (ResultRow | null)[] = [];
  // One at a time, because a large one is read completely to compute its digest.
  if (of === "results") for (const orphan of orphans) results.push(await resultRowOf(env, orphan));
  const answers = of === "answers" ? orphans.map(answerRowOf) : [];
  const rows = [...results, ...answers];
  const lives = <Row extends { expiresAt: number }>(row: Row | null): row is Row => row !== null && row.expiresAt > now;
  const over = orphans.filter((_, i) => !lives(rows[i] ?? null)).map(({ key }) => key);
  if (over.length > 0) await env.RESULTS.delete(over);
  await recordResults(env, results.filter(lives), answers.filter(lives));
  found.removed_objects += over.length;
  found.restored += orphans.length - over.length;
}
