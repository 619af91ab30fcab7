/**
 * A Pool's retry budget: a share of its requests plus a steady rate, so that retries do not multiply the load on a pool
 * that is failing as a whole (as in Finagle and Envoy). Pure.
 */

/** Retries earned per request. */
const PER_REQUEST = 0.2;
/** Retries earned per second, so that a pool with few callers can always retry. */
const PER_SECOND = 1;
/** Maximum balance: several times what the death of one card costs. */
const SAVED_MAX = 20;

export interface Budget {
  saved: number;
  at: number;
}

export function newBudget(now: number): Budget {
  return { saved: SAVED_MAX, at: now };
}

/** Credits an admitted request. */
export function earn(budget: Budget, now: number): Budget {
  return { saved: Math.min(SAVED_MAX, inTime(budget, now) + PER_REQUEST), at: now };
}

/** Takes one retry if the balance allows. */
export function spend(budget: Budget, now: number): { ok: boolean; budget: Budget } {
  const saved = inTime(budget, now);
  return saved < 1 ? { ok: false, budget: { saved, at: now } } : { ok: true, budget: { saved: saved - 1, at: now } };
}

/** The current balance. A clock that was set back earns nothing. */
function inTime({ saved, at }: Budget, now: number): number {
  return Math.min(SAVED_MAX, saved + (Math.max(0, now - at) / 1000) * PER_SECOND);
}
