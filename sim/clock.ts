/** The simulator's clock, and sleeping. */
import { setTimeout as delay } from "node:timers/promises";

/** Milliseconds since the epoch. Monotonic, even if the wall clock is changed. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Node's timers accept at most 2^31 - 1 ms. */
const SLEEP_MAX_MS = 2_147_483_647;

/** Sleeps for `ms`. An abort of the signal ends the sleep early and is not an error. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await delay(Math.min(ms, SLEEP_MAX_MS), undefined, signal ? { signal } : {}).catch((error: unknown) => {
    if (!signal?.aborted) throw error;
  });
}
