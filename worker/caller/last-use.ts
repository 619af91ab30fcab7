/**
 * Records when a key or operator last authenticated. Writes to D1 rarely and after the answer, because nothing may be
 * in `waitUntil` while a request is in line. The in-memory state only saves writes.
 */
import { LRUCache } from "lru-cache";
import { setLastUse } from "../db/caller-queries.ts";
import type { Env } from "../env.ts";

/** Minimum time between two writes for the same credential, per isolate. */
const EVERY_MS = 3_600_000;
const TOLD_MAX = 10_000;

/** The credential that authenticated a request. */
export interface Credential {
  of: "key" | "operator";
  id: string;
}

/** When each credential was last written, ms since the epoch. */
const told = new LRUCache<string, number>({ max: TOLD_MAX });

/** `now`: ms since the epoch. A failed write is not retried; the next one follows an hour later. */
export function noteUse(env: Env, credential: Credential, now: number, later: (work: Promise<unknown>) => void): void {
  const who = `${credential.of} ${credential.id}`;
  const before = told.get(who);
  if (before !== undefined && now - before < EVERY_MS) return;
  told.set(who, now);
  later(setLastUse(env, credential, now).catch((error: unknown) => failed(who, error)));
}

function failed(who: string, error: unknown): void {
  console.error(JSON.stringify({ event: "last_use_failed", who, error: String(error) }));
}
