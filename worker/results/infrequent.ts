/**
 * Moves old results to R2's Infrequent Access class, for services that ask for it and where it costs less: storage
 * there costs two thirds, but the move, every later read, and at least 30 days are charged.
 */
import type { Walked } from "./ageing.ts";
import { allServices } from "../db/queries.ts";
import type { Env } from "../env.ts";

const INFREQUENT = "InfrequentAccess";
const DAY_MS = 86_400_000;
/** A month as R2 bills it, which is also the minimum billed duration of the class. */
const MONTH_MS = 30 * DAY_MS;
/** Dollars: saved per gigabyte and month; and one read of the old object plus one write of the new one. */
const SAVED_GB_MONTH = 0.015 - 0.01;
const MOVE = (0.36 + 9) / 1e6;
const GB = 1e9;
/** A sweep stops after the page in which it reaches this many moves; each is a read and a write. */
const MOVES_MAX = 500;

/** Whether moving an object with `leftMs` to live saves more than it costs, if nobody reads it again. Pure. */
export function pays(bytes: number, leftMs: number): boolean {
  return leftMs >= MONTH_MS && (bytes / GB) * SAVED_GB_MONTH * (leftMs / MONTH_MS) > MOVE;
}

/**
 * Returns a visitor that moves the results on a page and returns false when the sweep has moved enough. Null when no
 * service wants it.
 */
export async function mover(env: Env, now: number): Promise<((page: Walked[]) => Promise<boolean>) | null> {
  const wanted = (await allServices(env)).map(({ id, config }) => [id, config.results.infrequent_after_days] as const);
  const ages = new Map(
    wanted.flatMap(([id, days]) => (days === null || days === undefined ? [] : [[id, days * DAY_MS]])),
  );
  if (ages.size === 0) return null;
  let moved = 0;
  return async (page) => {
    for (const object of page) {
      const { service = "", createdAt, expiresAt } = object.customMetadata ?? {};
      const age = ages.get(service) ?? Infinity;
      const due = now - Number(createdAt) > age && pays(object.size, Number(expiresAt) - now);
      if (due && object.storageClass !== INFREQUENT && (await move(env.RESULTS, object.key))) moved++;
    }
    return moved < MOVES_MAX;
  };
}

/** Rewrites the object under the same key, unless it was deleted or replaced meanwhile. */
async function move(bucket: R2Bucket, key: string): Promise<boolean> {
  const object = await bucket.get(key);
  if (object === null) return false;
  const { httpMetadata, customMetadata, etag } = object;
  const put = await bucket.put(key, object.body, {
    ...(httpMetadata === undefined ? {} : { httpMetadata }),
    ...(customMetadata === undefined ? {} : { customMetadata }),
    onlyIf: { etagMatches: etag },
    storageClass: INFREQUENT,
  });
  return put !== null;
}
