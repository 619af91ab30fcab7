/** Retries calls, so that callers do not notice a single failure of a store or an object. */

const TRIES = 3;
/** Pause before the first retry, ms; it doubles with each retry. */
const PAUSE_MS = 100;

/** Makes a call up to `tries` times; throws the last error. */
export async function repeated<T>(call: () => Promise<T>, tries = TRIES, pauseMs = PAUSE_MS): Promise<T> {
  for (let made = 1; ; made++) {
    try {
      return await call();
    } catch (error) {
      if (made === tries) throw error;
      await scheduler.wait(pauseMs * 2 ** (made - 1));
    }
  }
}
