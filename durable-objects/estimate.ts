/** The run times a Pool has learned for its service, and estimates based on them. Pure. */
import type { Observed } from "./pool-protocol.ts";

/** Weight of a new observation in the moving average: about the last twenty runs count. */
const NEW_SHARE = 0.1;
/** Older estimates refuse nobody: if all deadlines were below the estimate, nothing would run and correct it. */
const STALE_MS = 600_000;

export interface Times {
  firstByteMs: number;
  totalMs: number;
  count: number;
  /** When the last run was observed, ms since the epoch. */
  at: number;
}

/** The estimate, if it is recent enough to base a refusal on. */
export function known(times: Times | null, now: number): Times | null {
  return times === null || now - times.at > STALE_MS ? null : times;
}

export function learn(times: Times | null, seen: Observed, now: number): Times {
  if (times === null) return { ...seen, count: 1, at: now };
  // The first few observations weigh the same, so that one odd first run is soon forgotten.
  const share = Math.max(NEW_SHARE, 1 / (times.count + 1));
  return {
    firstByteMs: times.firstByteMs + share * (seen.firstByteMs - times.firstByteMs),
    totalMs: times.totalMs + share * (seen.totalMs - times.totalMs),
    count: times.count + 1,
    at: now,
  };
}

/** Estimated wait, ms, when `ahead` grants come first and all `slots` are busy; null without an estimate. */
export function startMs(times: Times | null, ahead: number, slots: number): number | null {
  return times === null || slots === 0 ? null : ((ahead + 1) * times.totalMs) / slots;
}
