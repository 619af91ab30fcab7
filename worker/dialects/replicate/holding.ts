/**
 * Holds requests that the tenant's rate or `jobs_waiting` would refuse, and retries them here: Replicate's client
 * repeats a refused request five times without a pause. After HOLD_MS_MAX a request is refused after all.
 */
import { detail } from "../../details.ts";
import { type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { unlessGone } from "../../run/until.ts";

/** Longest time that one request is held. */
const HOLD_MS_MAX = 30_000;
/** Bounds of the pause between two attempts, whatever `retryAfterMs` says. */
const PAUSE_MS_MIN = 250;
const PAUSE_MS_MAX = 2_000;
/** Jitter: the largest share by which a pause is extended at random, so that held requests do not all retry at once. */
const PAUSE_JITTER = 0.2;
/** Requests that one isolate holds, in all and per tenant. */
export const HELD_MAX = 500;
export const HELD_OF_TENANT_MAX = 100;

let held = 0;
/** Tenants without held requests have no entry. */
const heldBy = new Map<string, number>();

/**
 * Returns the final outcome of `attempt`. If too many requests are already held: 503 `queue_full`, which the client
 * does not retry.
 */
export async function heldBack<T>(
  tenant: string,
  gone: AbortSignal,
  attempt: () => Promise<T | Refusal>,
  ms = HOLD_MS_MAX,
): Promise<T | Refusal> {
  const until = Date.now() + ms;
  let outcome = await attempt();
  if (!isTemporary(outcome)) return outcome;
  if (held >= HELD_MAX || (heldBy.get(tenant) ?? 0) >= HELD_OF_TENANT_MAX)
    return refuse("queue_full", {
      facts: detail("held_requests"),
      retryAfterMs: outcome.retryAfterMs,
    });
  count(tenant, 1);
  try {
    while (isTemporary(outcome) && Date.now() < until && !gone.aborted) {
      await unlessGone(scheduler.wait(pauseOf(outcome, until - Date.now())), gone);
      // The client has disconnected: no further attempt.
      if (!gone.aborted) outcome = await attempt();
    }
    return outcome;
  } finally {
    count(tenant, -1);
  }
}

/** Whether the refusal may pass with time. */
function isTemporary(outcome: unknown): outcome is Refusal {
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
