/**
 * A circuit breaker for one card and one service, driven by how runs end. Pure; `now` is an argument.
 *
 *   closed      takes work; `maxFails` failures within `failTimeoutMs` open it
 *   open        takes nothing until `openUntil`. It is `proven` if a trial has failed; otherwise it is a suspicion, and
 *               a Pool with too many ejected cards may request a trial early
 *   half_open   one request may try the card
 *   trial       that request is running: success closes the breaker, failure opens it again for the same time
 *
 * After failures, a closed breaker limits concurrent runs to the number of further failures that would open it, so that
 * no other run is in progress when it opens.
 *
 * A card that recovers and fails again stays out longer each time, up to OUT_TIMES_MAX. A card that is simply down is
 * tried every `failTimeoutMs`, so it is back soon after it recovers.
 */
import type { BreakerState } from "./card-protocol.ts";

/** Upper limit of the ejection time, as a multiple of `failTimeoutMs`. */
const OUT_TIMES_MAX = 10;

export interface BreakerLimits {
  maxFails: number;
  failTimeoutMs: number;
}

export interface Health {
  /** Times of the failures within the last `failTimeoutMs`, oldest first; at most `maxFails`. */
  fails: number[];
  openedAt: number;
  /** 0 when closed. */
  openUntil: number;
  /** Ejections since the last long healthy period. */
  ejections: number;
  closedAt: number;
  /** The attempt that is trying a half-open card. */
  trial: string | null;
  reason: string | null;
  /** Failures since the last success, at most `maxFails`. */
  unrefuted: number;
  /** Whether a trial has failed since the breaker opened. */
  proven: boolean;
}

export const HEALTHY: Health = {
  fails: [],
  openedAt: 0,
  openUntil: 0,
  ejections: 0,
  closedAt: 0,
  trial: null,
  reason: null,
  unrefuted: 0,
  proven: false,
};

export function gate(health: Health, limits: BreakerLimits, now: number): BreakerState {
  if (health.openUntil === 0) return { state: "closed", untilAt: 0, reason: null, ...caution(health, limits, now) };
  // If the clock stepped back to before `openedAt`, `openUntil` would be later by the size of the step: allow a trial.
  const isOut = now < health.openUntil && now >= health.openedAt;
  const state = health.trial !== null ? "trial" : isOut ? "open" : "half_open";
  const untilAt = isOut ? health.openUntil : Math.min(now, health.openUntil);
  return { state, untilAt, reason: health.reason, proven: health.proven };
}

/** The limit on concurrent runs after recent failures. */
function caution(health: Health, limits: BreakerLimits, now: number): { most?: number } {
  const standing = Math.min(health.unrefuted, recent(health, limits, now).length);
  return standing === 0 ? {} : { most: Math.max(1, limits.maxFails - standing) };
}

/** Failures that still count. If the clock stepped back, times in the future count as now. */
function recent({ fails }: Health, { failTimeoutMs }: BreakerLimits, now: number): number[] {
  return fails.map((at) => Math.min(at, now)).filter((at) => at > now - failTimeoutMs);
}

/** Records the attempt that was let through a half-open breaker. */
export function tried(health: Health, attempt: string): Health {
  return { ...health, trial: attempt };
}

export function failed(health: Health, limits: BreakerLimits, attempt: string, reason: string, now: number): Health {
  if (health.openUntil !== 0) {
    // Runs that began before the breaker opened tell nothing new.
    if (health.trial !== attempt) return health;
    const openUntil = now + outMs(health.ejections, limits);
    return { ...health, trial: null, reason, openedAt: now, openUntil, proven: true };
  }
  const fails = [...recent(health, limits, now), now].slice(-limits.maxFails);
  const unrefuted = Math.min(health.unrefuted + 1, limits.maxFails);
  if (fails.length < limits.maxFails) return { ...health, fails, unrefuted, reason };
  const rested = health.closedAt > 0 && now - health.closedAt > limits.failTimeoutMs * (health.ejections + 1);
  const ejections = Math.min((rested ? 0 : health.ejections) + 1, OUT_TIMES_MAX);
  return {
    ...health,
    fails: [],
    trial: null,
    reason,
    ejections,
    openedAt: now,
    openUntil: now + outMs(ejections, limits),
    unrefuted: 0,
    proven: false,
  };
}

export function succeeded(health: Health, attempt: string, now: number): Health {
  if (health.openUntil === 0) return health.unrefuted === 0 ? health : { ...health, unrefuted: 0 };
  if (health.trial !== attempt) return health;
  return { ...health, fails: [], openUntil: 0, trial: null, closedAt: now, reason: null, proven: false };
}

/** The trial ended without a verdict or its holder is gone: the next request may try. */
export function abandoned(health: Health, attempt: string): Health {
  return health.trial === attempt ? { ...health, trial: null } : health;
}

function outMs(ejections: number, limits: BreakerLimits): number {
  return limits.failTimeoutMs * Math.max(1, ejections);
}
