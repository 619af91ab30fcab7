/**
 * Whether one card takes work for one service, learned from how its runs end. Pure; `now` is an argument.
 *
 *   closed      takes work; `maxFails` failures within `failTimeoutMs` open it
 *   open        takes nothing until `openUntil`; `proven` when a trial has failed, else it is a suspicion, and a Pool
 *               that has too many cards out may press for a trial before the time
 *   half_open   one request may try it
 *   trial       that one is under way: success closes, failure opens again for as long
 *
 * A closed card whose last runs failed runs no more at once than it may fail: the one that opens it is its last.
 *
 * A card that recovers and fails again stays out longer each time, up to OUT_TIMES_MAX; a card that is simply down
 * is tried every `failTimeoutMs`, so that it is back soon after it heals.
 */
import type { Gate } from "./card-protocol.ts";

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
  /** Failures since the last success. */
  unrefuted: number;
  /** A trial has failed since it opened. */
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

export function gate(health: Health, limits: BreakerLimits, now: number): Gate {
  if (health.openUntil === 0) return { state: "closed", untilAt: 0, reason: null, ...caution(health, limits, now) };
  // A clock that stepped back to before it opened would hold it open for as long as it stepped: it may be tried.
  const isOut = now < health.openUntil && now >= health.openedAt;
  const state = health.trial !== null ? "trial" : isOut ? "open" : "half_open";
  const untilAt = isOut ? health.openUntil : Math.min(now, health.openUntil);
  return { state, untilAt, reason: health.reason, proven: health.proven };
}

/** How many may run at once while the last failures stand. */
function caution(health: Health, limits: BreakerLimits, now: number): { most?: number } {
  const standing = Math.min(health.unrefuted, recent(health, limits, now).length);
  return standing === 0 ? {} : { most: Math.max(1, limits.maxFails - standing) };
}

/** Failures that count. A clock that stepped back leaves times in the future: they count as now. */
function recent({ fails }: Health, { failTimeoutMs }: BreakerLimits, now: number): number[] {
  return fails.map((at) => Math.min(at, now)).filter((at) => at > now - failTimeoutMs);
}

/** The attempt that was let through a half-open gate. */
export function tried(health: Health, attempt: string): Health {
  return { ...health, trial: attempt };
}

export function failed(health: Health, limits: BreakerLimits, attempt: string, reason: string, now: number): Health {
  if (health.openUntil !== 0) {
    // Runs that began before the gate opened say nothing new.
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

/** The trial ended without a verdict, or its holder is gone: the next request may try. */
export function abandoned(health: Health, attempt: string): Health {
  return health.trial === attempt ? { ...health, trial: null } : health;
}

function outMs(ejections: number, limits: BreakerLimits): number {
  return limits.failTimeoutMs * Math.max(1, ejections);
}
