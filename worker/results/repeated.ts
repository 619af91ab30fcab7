/** Writes that are tried again: a store that stumbles once costs nobody anything. */

const TRIES = 3;
/** Before the first repeat, and so much longer before each later one. */
const PAUSE_MS = 100;

/** A write with its repeats; the last failure is the caller's. */
export async function repeated<T>(write: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await write();
    } catch (error) {
      if (tries === TRIES) throw error;
      await scheduler.wait(PAUSE_MS * tries);
    }
  }
}
