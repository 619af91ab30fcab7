/**
 * Writes to R2 that are under way in this isolate. A stream's end is sent before what is kept of it lies in R2; who asks
 * for that right away waits for it here. A convenience: elsewhere a reader looks again, or follows the run in its Pool.
 */

/** So long after its beginning a write is waited for. */
const WAIT_MS_MAX = 5_000;

interface Write {
  work: Promise<unknown>;
  until: number;
}

const writes = new Map<string, Write>();

/** What is being written under these keys. */
export function pend(keys: string[], work: Promise<unknown>): void {
  forgetLost();
  const write: Write = { work, until: Date.now() + WAIT_MS_MAX };
  const done = (): void => {
    for (const key of keys) if (writes.get(key) === write) writes.delete(key);
  };
  for (const key of keys) {
    // To the end of the map.
    writes.delete(key);
    writes.set(key, write);
  }
  // How it ended is the writer's to say.
  work.then(done, done);
}

/** Waits until nothing is being written under the key, for a moment at most. */
export async function settled(key: string): Promise<void> {
  const write = writes.get(key);
  if (write === undefined) return;
  const leftMs = write.until - Date.now();
  if (leftMs > 0) await Promise.race([write.work.then(ignore, ignore), scheduler.wait(leftMs)]);
}

/** A write never says that it ended whose request was cut off. The oldest come first. */
function forgetLost(): void {
  const now = Date.now();
  for (const [key, { until }] of writes) {
    if (until > now) break;
    writes.delete(key);
  }
}

function ignore(): void {}
