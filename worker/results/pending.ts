/**
 * R2 writes in progress in this isolate. A stream ends for its caller before its result is in R2; a request for it that
 * arrives at once waits here. This is an optimization: in other isolates, a reader retries, or follows the run in its
 * Pool.
 */
import { shortly } from "../../durable-objects/timeout.ts";

/** How long after its start a write is waited for. */
const WAIT_MS_MAX = 5_000;

interface Write {
  work: Promise<unknown>;
  until: number;
}

const writes = new Map<string, Write>();

/** Registers a write to these keys. */
export function pend(keys: string[], work: Promise<unknown>): void {
  forgetLost();
  const write: Write = { work, until: Date.now() + WAIT_MS_MAX };
  const done = (): void => {
    for (const key of keys) if (writes.get(key) === write) writes.delete(key);
  };
  for (const key of keys) {
    // Moves the key to the end of the map, which keeps the map ordered by age.
    writes.delete(key);
    writes.set(key, write);
  }
  // The writer handles errors.
  work.then(done, done);
}

/** Waits, for a limited time, until no write to the key is in progress. */
export async function settled(key: string): Promise<void> {
  const write = writes.get(key);
  if (write === undefined) return;
  const leftMs = write.until - Date.now();
  if (leftMs > 0) await shortly(write.work.then(ignore, ignore), leftMs);
}

/** Drops writes that never finish because their request was cut off. The map is ordered oldest first. */
function forgetLost(): void {
  const now = Date.now();
  for (const [key, { until }] of writes) {
    if (until > now) break;
    writes.delete(key);
  }
}

function ignore(): void {}
