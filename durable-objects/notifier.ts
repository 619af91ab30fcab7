/**
 * Pushes the latest state to one listener. At most one call is in flight; changes during it are covered by the next, so
 * the listener always ends up with the latest state. Changes that are not urgent are sent within LATER_MS. A call that
 * fails or times out is retried a few times; a listener that missed something asks by itself.
 */
import { withTimeout } from "./timeout.ts";

const TRIES_MAX = 4;
const PAUSE_MS = 50;
/** How long a change that is not urgent may wait to be combined with later ones. */
const LATER_MS = 2_000;

export class Notifier {
  /** Returns whether the listener wants the next change at once. */
  readonly #send: () => Promise<boolean>;
  #isEager = true;
  /** Whether there is something to send, and whether it can wait. */
  #news: "none" | "later" | "now" = "none";
  #sending = false;
  /** The listener asked by itself during a call; that call's reply may be older. */
  #listened = false;
  /** Cuts short the pause before a delayed send. */
  #hurry: (() => void) | null = null;

  constructor(send: () => Promise<boolean>) {
    this.#send = send;
  }

  /** Called when the listener asked by itself: it wants changes at once from now on. */
  listen(): void {
    this.#isEager = true;
    this.#listened = true;
    if (this.#news !== "none") this.#hurry?.();
  }

  /** Called after a change. */
  async tell(how: "now" | "later" | "as wanted"): Promise<void> {
    const isUrgent = how === "now" || (how === "as wanted" && this.#isEager);
    if (isUrgent) this.#hurry?.();
    if (isUrgent || this.#news === "none") this.#news = isUrgent ? "now" : "later";
    if (this.#sending) return;
    this.#sending = true;
    await this.#tellAll();
  }

  async #tellAll(): Promise<void> {
    for (let failures = 0; this.#news !== "none" && failures < TRIES_MAX;) {
      if (this.#news === "later") await this.#pause();
      this.#news = "none";
      this.#listened = false;
      try {
        const isWanted = await withTimeout(this.#send());
        this.#isEager = isWanted || this.#listened;
        failures = 0;
      } catch (error) {
        failures++;
        this.#news = "now";
        if (failures === TRIES_MAX)
          console.error(JSON.stringify({ event: "report_push_failed", error: String(error) }));
        else await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** failures));
      }
    }
    // Synchronous with the last check of `#news`: otherwise a change in between would never be sent.
    this.#sending = false;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#hurry = null;
        resolve();
      };
      const timer = setTimeout(end, LATER_MS);
      this.#hurry = end;
    });
  }
}
