/** What a Pool has learned of its service's times, and what it expects from them. Pure. */
import type { Observed } from "./pool-protocol.ts";

/** Weight of a new observation: the mean follows the last twenty or so runs. */
const NEW_SHARE = 0.1;
/**
 * Nobody is refused by an estimate older than this: if all callers' deadlines were below it, nothing would run, and it
 * would never move.
 */
const STALE_MS = 600_000;

export interface Times {
  firstByteMs: number;
  totalMs: number;
  count: number;
  /** When the last run was seen. */
  at: number;
}

/** The estimate, while it is fresh enough to refuse somebody by it. */
export function known(times: Times | null, now: number): Times | null {
  return times === null || now - times.at > STALE_MS ? null : times;
}

export function learn(times: Times | null, seen: Observed, now: number): Times {
  if (times === null) return { ...seen, count: 1, at: now };
  // The first few weigh alike, so that one odd first run is soon forgotten.
  const share = Math.max(NEW_SHARE, 1 / (times.count + 1));
  return {
    firstByteMs: times.firstByteMs + share * (seen.firstByteMs - times.firstByteMs),
    totalMs: times.totalMs + share * (seen.totalMs - times.totalMs),
    count: times.count + 1,
    at: now,
  };
}

/** Time until a start for somebody with `ahead` grants before it, when all `slots` are busy; null when nothing is known. */
export function startMs(times: Times | null, ahead: number, slots: number): number | null {
  return times === null || slots === 0 ? null : ((ahead + 1) * times.totalMs) / slots;
}
