/**
 * Gathers the live status of many objects, bounded in concurrency and time. Objects that do not answer are left out.
 */
import type { CardStatus } from "../../durable-objects/card-protocol.ts";
import type { PoolStatus } from "../../durable-objects/pool-protocol.ts";
import type { Env } from "../env.ts";
import { unlessLate } from "../run/until.ts";

/** Objects queried concurrently. */
const ASKED_AT_ONCE = 20;
/** Timeout of one answer. */
export const ANSWER_MS_MAX = 2_000;
/** Timeout of the whole gathering; objects not queried by then are left out. */
const GATHER_MS_MAX = 5_000;

export function cardStatuses(env: Env, ids: string[]): Promise<Map<string, CardStatus>> {
  return gather(ids, (id) => env.CARD.getByName(id).status());
}

export function poolStatuses(env: Env, ids: string[]): Promise<Map<string, PoolStatus>> {
  return gather(ids, (id) => env.POOL.getByName(id).status());
}

async function gather<T>(ids: string[], ask: (id: string) => Promise<T>): Promise<Map<string, T>> {
  const answers = new Map<string, T>();
  const until = Date.now() + GATHER_MS_MAX;
  const left = ids.values();
  const askInTurn = async () => {
    for (const id of left) {
      if (Date.now() >= until) return;
      const answer = await within(ANSWER_MS_MAX, () => ask(id));
      if (answer.ok) answers.set(id, answer.value);
      else console.warn(JSON.stringify({ event: "object_unreachable", object: id, why: answer.why }));
    }
  };
  await Promise.all(Array.from({ length: Math.min(ASKED_AT_ONCE, ids.length) }, askInTurn));
  return answers;
}

/** Returns the outcome of `work`, which may be a failure, if it comes within `ms`. */
export async function within<T>(
  ms: number,
  work: () => Promise<T>,
): Promise<{ ok: true; value: T } | { ok: false; why: string }> {
  const answered = (async () => ({ ok: true as const, value: await work() }))().catch((error: unknown) => ({
    ok: false as const,
    why: error instanceof Error ? error.message : String(error),
  }));
  return (await unlessLate(answered, Date.now() + ms)) ?? { ok: false, why: `no answer in ${ms} ms` };
}
