/**
 * Requests that the tenant's rate or its waiting jobs would refuse are held here and tried again: the client repeats a
 * refused one five times at once, without a pause. Who has waited for HOLD_MS_MAX is refused after all.
 */
import { type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { unlessGone } from "../../run/until.ts";

/** Longest that one request is held. */
const HOLD_MS_MAX = 30_000;
/** Between two tries: at least, and at most, whatever the refusal says. */
const PAUSE_MS_MIN = 250;
const PAUSE_MS_MAX = 2_000;
/** Share by which a pause is stretched at random, so that the held do not all come back at once. */
const PAUSE_JITTER = 0.2;
/** Requests that one isolate holds, and how many of them may be of one tenant. */
export const HELD_MAX = 500;
export const HELD_OF_TENANT_MAX = 100;

let held = 0;
/** Tenants that have none held are left out. */
const heldBy = new Map<string, number>();

/** What comes of it in the end; 503 `queue_full`, which the client does not repeat, where there is no room to wait in. */
export async function heldBack<T>(
  tenant: string,
  gone: AbortSignal,
  attempt: () => Promise<T | Refusal>,
  ms = HOLD_MS_MAX,
): Promise<T | Refusal> {
  const until = Date.now() + ms;
  let outcome = await attempt();
  if (!passes(outcome)) return outcome;
  if (held >= HELD_MAX || (heldBy.get(tenant) ?? 0) >= HELD_OF_TENANT_MAX)
    return refuse("queue_full", {
      facts: { detail: "too many requests beyond the limits are waiting" },
      retryAfterMs: outcome.retryAfterMs,
    });
  count(tenant, 1);
  try {
    while (passes(outcome) && Date.now() < until && !gone.aborted) {
      await unlessGone(scheduler.wait(pauseOf(outcome, until - Date.now())), gone);
      // Whoever has gone wants nothing any more.
      if (!gone.aborted) outcome = await attempt();
    }
    return outcome;
  } finally {
    count(tenant, -1);
  }
}

/** A refusal that time mends. */
function passes(outcome: unknown): outcome is Refusal {
  return isRefusal(outcome) && (outcome.reason === "requests" || outcome.reason === "concurrency");
}

function pauseOf({ retryAfterMs }: Refusal, msMax: number): number {
  const ms = Math.min(PAUSE_MS_MAX, Math.max(PAUSE_MS_MIN, retryAfterMs ?? PAUSE_MS_MAX));
  return Math.min(msMax, ms * (1 + Math.random() * PAUSE_JITTER));
}

function count(tenant: string, by: 1 | -1): void {
  held += by;
  const left = (heldBy.get(tenant) ?? 0) + by;
  if (left === 0) heldBy.delete(tenant);
  else heldBy.set(tenant, left);
}
