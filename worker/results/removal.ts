/**
 * Removes results and stored answers: objects first, then their rows, so that an interrupted removal can be resumed.
 * Idempotent. Edge copies expire by themselves within a minute.
 */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { answersHolding, answersMatching, type Filter, forgetKept, resultsMatching } from "../db/purge-queries.ts";
import { forgetResults } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { forgetEdgeCopy } from "./edge.ts";
import { resultKey } from "./result.ts";

/** Maximum results, and answers, per round: what R2 deletes in one call. */
const ROUND_ROWS = 1_000;

/** `results` also removes the answers that contain them, which would bring the bytes back. */
export type What = "results" | "answers" | "all";

export interface Removed {
  results: number;
  answers: number;
  bytes: number;
  /** Nothing that matches is left. */
  done: boolean;
}

export async function removeMatching(env: Env, filter: Filter, what: What, roundsMax: number): Promise<Removed> {
  const removed: Removed = { results: 0, answers: 0, bytes: 0, done: false };
  for (let round = 0; round < roundsMax && !removed.done; round++) {
    const seenAt = Date.now();
    const results = what === "answers" ? [] : await resultsMatching(env, filter, ROUND_ROWS);
    const ids = results.map(({ key }) => key);
    const answers =
      what === "results" ? await answersHolding(env, ids) : await answersMatching(env, filter, ROUND_ROWS);
    const keys = answers.map(({ key }) => key);
    for (const some of [ids.map(resultKey), keys.slice(0, ROUND_ROWS), keys.slice(ROUND_ROWS)])
      if (some.length > 0) await env.RESULTS.delete(some);
    await forgetKept(env, ids, keys, seenAt);
    removed.results += ids.length;
    removed.answers += keys.length;
    removed.bytes += [...results, ...answers].reduce((bytes, row) => bytes + row.bytes, 0);
    removed.done = ids.length < ROUND_ROWS && (what === "results" || keys.length < ROUND_ROWS);
  }
  return removed;
}

/**
 * Removes a tenant's results and these of its answers at once, with their copies at this edge location. Call it only
 * after their rows were written: a row that is written later would never be removed.
 */
export async function removeNow(
  { env, base }: { env: Env; base: string },
  tenant: string,
  ids: string[],
  answers: string[],
): Promise<void> {
  const keys = [...ids.map(resultKey), ...answers];
  await withTimeout(env.RESULTS.delete(keys));
  await forgetResults(env, tenant, ids, answers);
  await Promise.all(keys.map((key) => forgetEdgeCopy(base, key)));
}
