/**
 * Tells one listener the latest state: at most one call under way, changes meanwhile are told by the next one, so
 * that the listener always ends with the last. A failed call is repeated a few times; the listener asks by itself
 * when it misses something.
 */

const TRIES_MAX = 4;
const PAUSE_MS = 50;

export class Teller {
  readonly #send: () => Promise<unknown>;
  #sending = false;
  #again = false;

  constructor(send: () => Promise<unknown>) {
    this.#send = send;
  }

  async tell(): Promise<void> {
    this.#again = true;
    if (this.#sending) return;
    this.#sending = true;
    try {
      for (let failures = 0; this.#again && failures < TRIES_MAX;) {
        this.#again = false;
        try {
          await this.#send();
          failures = 0;
        } catch (error) {
          failures++;
          this.#again = true;
          if (failures === TRIES_MAX) console.error(JSON.stringify({ event: "tell_failed", error: String(error) }));
          else await scheduler.wait(PAUSE_MS * 2 ** failures);
        }
      }
    } finally {
      this.#sending = false;
    }
  }
}
