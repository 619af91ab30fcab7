/**
 * When a key or an operator was last let in: told to D1 seldom, and after the answer, because nothing may stand in
 * `waitUntil` while a request is in line. What is remembered here only saves writes.
 */
import { LRUCache } from "lru-cache";
import { setLastUse } from "../db/caller-queries.ts";
import type { Env } from "../env.ts";

/** An isolate tells of the same one again after this time. */
const EVERY_MS = 3_600_000;
const TOLD_MAX = 10_000;

/** What let a request in. */
export interface Credential {
  of: "key" | "operator";
  id: string;
}

/** When each was told of, ms of the epoch. */
const told = new LRUCache<string, number>({ max: TOLD_MAX });

/** `now`: ms of the epoch. A write that fails is made good by the next one, an hour later. */
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
