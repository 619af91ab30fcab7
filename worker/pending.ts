/**
 * Writes to R2 that are under way in this isolate. An answer is sent before what is kept of it lies in R2; who asks for
 * that right away waits for it here. A convenience: elsewhere a reader looks again, or follows the run in its Pool.
 */

/** Longest that a reader waits for somebody else's write. */
const WAIT_MS_MAX = 5_000;

const writes = new Map<string, Promise<unknown>>();

/** What is being written under these keys. */
export function pend(keys: string[], work: Promise<unknown>): void {
  const done = (): void => {
    for (const key of keys) if (writes.get(key) === work) writes.delete(key);
  };
  for (const key of keys) writes.set(key, work);
  // How it ended is the writer's to say.
  work.then(done, done);
}

/** Waits until nothing is being written under the key, for a moment at most. */
export async function settled(key: string): Promise<void> {
  const work = writes.get(key);
  if (work !== undefined) await Promise.race([work.then(ignore, ignore), scheduler.wait(WAIT_MS_MAX)]);
}

function ignore(): void {}
