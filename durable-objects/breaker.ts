/**
 * Whether one card takes work for one service, learned from how its runs end. Pure; `now` is an argument.
 *
 *   closed      takes work; `maxFails` failures within `failTimeoutMs` open it
 *   open        takes nothing until `openUntil`
 *   half_open   one request may try it
 *   trial       that one is under way: success closes, failure opens again for as long
 *
 * A card that recovers and fails again stays out longer each time, up to OUT_TIMES_MAX; a card that is simply down
 * is tried every `failTimeoutMs`, so that it is back soon after it heals.
 */
import type { Gate } from "./protocol.ts";

/** Ejection time grows up to this many times `failTimeoutMs`. */
const OUT_TIMES_MAX = 10;

export interface BreakerLimits {
  maxFails: number;
  failTimeoutMs: number;
}

export interface Health {
  /** Times of failures within the last `failTimeoutMs`, oldest first; at most maxFails. */
  fails: number[];
  openedAt: number;
  /** 0: closed. */
  openUntil: number;
  /** How often it went from closed to open without a long healthy time between. */
  ejections: number;
  closedAt: number;
  /** The attempt that tries a half-open card. */
  trial: string | null;
  reason: string | null;
}

export const HEALTHY: Health = {
  fails: [],
  openedAt: 0,
  openUntil: 0,
  ejections: 0,
  closedAt: 0,
  trial: null,
  reason: null,
};

export function gate(health: Health, now: number): Gate {
  if (health.openUntil === 0) return { state: "closed", untilAt: 0, reason: null };
  // A clock that stepped back to before it opened would hold it open for as long as it stepped: it may be tried.
  const isOut = now < health.openUntil && now >= health.openedAt;
  const state = health.trial !== null ? "trial" : isOut ? "open" : "half_open";
  return { state, untilAt: isOut ? health.openUntil : Math.min(now, health.openUntil), reason: health.reason };
}

/** The attempt that was let through a half-open gate. */
export function tried(health: Health, attempt: string): Health {
  return { ...health, trial: attempt };
}

export function failed(health: Health, limits: BreakerLimits, attempt: string, reason: string, now: number): Health {
  if (health.openUntil !== 0) {
    // Runs that began before the gate opened say nothing new.
    if (health.trial !== attempt) return health;
    return { ...health, trial: null, reason, openedAt: now, openUntil: now + outMs(health.ejections, limits) };
  }
  // A clock that stepped back leaves times in the future: they count as now.
  const recent = health.fails.map((at) => Math.min(at, now)).filter((at) => at > now - limits.failTimeoutMs);
  const fails = [...recent, now].slice(-limits.maxFails);
  if (fails.length < limits.maxFails) return { ...health, fails, reason };
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
  };
}

export function succeeded(health: Health, attempt: string, now: number): Health {
  if (health.openUntil === 0 || health.trial !== attempt) return health;
  return { ...health, fails: [], openUntil: 0, trial: null, closedAt: now, reason: null };
}

/** The trial ended without a verdict, or its holder is gone: the next request may try. */
export function abandoned(health: Health, attempt: string): Health {
  return health.trial === attempt ? { ...health, trial: null } : health;
}

function outMs(ejections: number, limits: BreakerLimits): number {
  return limits.failTimeoutMs * Math.max(1, ejections);
}
