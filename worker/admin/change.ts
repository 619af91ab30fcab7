/** Changes through the admin API: their audit entries, and the retry after a write conflict. */
import type { Change, Outcome, Taken } from "../db/commit.ts";
import { invalid, refuse, type Refusal } from "../refusal.ts";
import type { Trace } from "../trace.ts";

const TRIES_MAX = 3;
/** Longest random pause between attempts, so that colliding changes do not collide again. */
const PAUSE_MS_MAX = 50;

const TAKEN: Record<Taken, Refusal> = {
  route_taken: invalid("route", "route_taken"),
  name_taken: invalid("name", "name_taken"),
  email_taken: invalid("email", "email_taken"),
};

/** What a changing call returns. An Outcome means that its write did not happen. */
export type Changed<T> = T | Refusal | Exclude<Outcome, "done">;

/**
 * Runs `change`, which reads, decides and writes. If the data had changed in between (`stale`), runs it again on the
 * current data.
 */
export async function attempt<T extends object>(change: () => Promise<Changed<T>>): Promise<T | Refusal> {
  for (let tries = 1; tries <= TRIES_MAX; tries++) {
    const outcome = await change();
    if (typeof outcome === "object") return outcome;
    if (outcome !== "stale") return TAKEN[outcome];
    await scheduler.wait(Math.random() * PAUSE_MS_MAX);
  }
  return refuse("changed_meanwhile", { retryAfterMs: 1000 });
}

export function changeOf(
  { actor, trace }: { actor: string; trace: Trace },
  action: string,
  target: string,
  before: object | null,
  after: object | null,
): Change {
  return { actor, action, target, before, after, requestId: trace.id };
}
