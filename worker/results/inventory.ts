/**
 * Whether R2 and the rows in D1 say the same: an object without a row is never aged away, a row without an object is
 * listed in vain. Rows are read before objects, and objects are written before their rows (the largest before their rows
 * are written again), so that nothing that comes or goes meanwhile is lost; what is younger than an hour counts as nothing.
 */
import { forgetKept, type Kept, keysBetween } from "../db/kept-queries.ts";
import { recordResults, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { answerRowOf, resultRowOf } from "./remake.ts";
import { RESULTS } from "./result.ts";
import { stretch } from "./stretch.ts";

/** Its row may be on its way. */
const YOUNG_MS = 3_600_000;
/** Objects, and rows, of one page. */
const PAGE_KEYS = 500;
/** Of one call. */
const PAGES_MAX = 10;

/** Nothing else under these prefixes is ours to judge. */
const KEPT = /^(?:results\/|[^/]+\/answers\/)/;

interface Area {
  /** Of its objects' keys. */
  prefix: string;
  of: Kept;
  /** What of a key does not stand in its row. */
  unsaid: string;
  /** The first key behind its rows; null: they have their table to themselves. */
  end: string | null;
}

/** Where objects with rows lie, in the order of their keys. */
const AREAS: Area[] = [
  { prefix: RESULTS, of: "results", unsaid: RESULTS, end: null },
  { prefix: "shared/answers/", of: "answers", unsaid: "", end: "shared/answers0" },
  { prefix: "ten_", of: "answers", unsaid: "", end: "ten`" },
];

/** Where a walk goes on: an area, and the key behind which. */
export type Place = [area: number, after: string];

export interface Inventory {
  compared: number;
  /** Objects without a row, and rows without an object. */
  orphans: number;
  missing: number;
  /** Mended: rows made anew from their objects, objects and rows removed. */
  restored: number;
  removed_objects: number;
  removed_rows: number;
}

/** Compares from a place on, as far as one call goes. `next` null: all is compared. */
export async function takeInventory(
  env: Env,
  from: Place,
  mend: boolean,
  pageKeys = PAGE_KEYS,
): Promise<{ found: Inventory; next: Place | null }> {
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

/** Nothing is lost that is not over: a row is made anew, from what stands beside the bytes. */
async function mendOrphans(env: Env, orphans: R2Object[], of: Kept, now: number, found: Inventory): Promise<void> {
  const results: (ResultRow | null)[] = [];
  // One after the other: a large one is read for its digest.
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
