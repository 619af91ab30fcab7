/** Retries writes, so that a single failure of a store affects nobody. */

const TRIES = 3;
/** Pause before the first retry, ms; each later pause is longer by this much. */
const PAUSE_MS = 100;

/** Tries a write up to TRIES times; throws the last error. */
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
