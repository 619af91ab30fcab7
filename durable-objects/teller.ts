/**
 * Tells one listener the latest state: at most one call under way, changes meanwhile are told by the next one, so
 * that the listener always ends with the last. A listener that need not know at once is told within LAZY_MS. A failed
 * call is repeated a few times; the listener asks by itself when it misses something.
 */

const TRIES_MAX = 4;
const PAUSE_MS = 50;
/** What nobody waits for is told together with what comes after it, so much later at most. */
const LAZY_MS = 250;

export class Teller {
  /** Answers whether the next change is wanted at once. */
  readonly #send: () => Promise<boolean>;
  #eager = true;
  /** There is something to tell. */
  #news = false;
  #sending = false;
  /** Cuts short the pause before a lazy telling. */
  #hurry: (() => void) | null = null;

  constructor(send: () => Promise<boolean>) {
    this.#send = send;
  }

  /** The listener asked by itself: it wants to know at once from now on. */
  listen(): void {
    this.#eager = true;
    this.#hurry?.();
  }

  /** Something changed; `known`: the listener has it from elsewhere. */
  async tell(known = false): Promise<void> {
    this.#news = true;
    const isUrgent = this.#eager && !known;
    if (isUrgent) this.#hurry?.();
    if (this.#sending) return;
    this.#sending = true;
    try {
      if (!isUrgent) await this.#pause();
      await this.#tellAll();
    } finally {
      this.#sending = false;
    }
  }

  async #tellAll(): Promise<void> {
    for (let failures = 0; this.#news && failures < TRIES_MAX;) {
      this.#news = false;
      try {
        this.#eager = await this.#send();
        failures = 0;
        if (this.#news && !this.#eager) await this.#pause();
      } catch (error) {
        failures++;
        this.#news = true;
        if (failures === TRIES_MAX) console.error(JSON.stringify({ event: "tell_failed", error: String(error) }));
        else await scheduler.wait(PAUSE_MS * 2 ** failures);
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#hurry = null;
        resolve();
      };
      const timer = setTimeout(end, LAZY_MS);
      this.#hurry = end;
    });
  }
}
