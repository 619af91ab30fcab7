/**
 * How many retries a Pool allows: a share of its requests and a little by the clock, so that a pool that is sick as a
 * whole is not hit harder by trying everything again (as Finagle's and Envoy's retry budgets). Pure.
 */

/** Retries that one request earns. */
const PER_REQUEST = 0.2;
/** Retries earned by time alone, so that a pool with few callers may always try again. */
const PER_SECOND = 1;
/** Most that is saved up: what one card that dies costs its callers, several times over. */
const SAVED_MAX = 20;

export interface Budget {
  saved: number;
  at: number;
}

export function newBudget(now: number): Budget {
  return { saved: SAVED_MAX, at: now };
}

/** A request was admitted. */
export function earn(budget: Budget, now: number): Budget {
  return { saved: Math.min(SAVED_MAX, inTime(budget, now) + PER_REQUEST), at: now };
}

/** One retry, if there is one left. */
export function spend(budget: Budget, now: number): { ok: boolean; budget: Budget } {
  const saved = inTime(budget, now);
  return saved < 1 ? { ok: false, budget: { saved, at: now } } : { ok: true, budget: { saved: saved - 1, at: now } };
}

/** A clock that was set back earns nothing. */
function inTime({ saved, at }: Budget, now: number): number {
  return Math.min(SAVED_MAX, saved + (Math.max(0, now - at) / 1000) * PER_SECOND);
}
