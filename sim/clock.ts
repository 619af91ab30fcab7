/** The simulator's time: an instant, and waiting. */
import { setTimeout as delay } from "node:timers/promises";

/** Milliseconds since the epoch that never step back, whatever is done to the wall clock. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Node's timers hold 2^31 - 1 ms at most. */
const SLEEP_MAX_MS = 2_147_483_647;

/** Sleeps; the signal ends it early and is no error. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await delay(Math.min(ms, SLEEP_MAX_MS), undefined, signal ? { signal } : {}).catch((error: unknown) => {
    if (!signal?.aborted) throw error;
  });
}
