/**
 * Tells one listener the latest state: at most one call under way, changes meanwhile are told by the next one, so
 * that the listener always ends with the last. A listener that need not know at once is told within LATER_MS. A call that
 * fails, or is not answered in time, is repeated a few times; the listener asks by itself when it misses something.
 */
import { answered } from "./answer-protocol.ts";

const TRIES_MAX = 4;
const PAUSE_MS = 50;
/** What nobody waits for is told together with what comes after it, so much later at most. */
const LATER_MS = 2_000;

export class Teller {
  /** Answers whether the next change is wanted at once. */
  readonly #send: () => Promise<boolean>;
  #isEager = true;
  /** There is something to tell, and whether it can wait. */
  #news: "none" | "later" | "now" = "none";
  #sending = false;
  /** It asked by itself while it was told: its answer may be older than its question. */
  #listened = false;
  /** Cuts short the pause before a later telling. */
  #hurry: (() => void) | null = null;

  constructor(send: () => Promise<boolean>) {
    this.#send = send;
  }

  /** The listener asked by itself: it wants to know at once from now on. */
  listen(): void {
    this.#isEager = true;
    this.#listened = true;
    if (this.#news !== "none") this.#hurry?.();
  }

  /** Something changed. */
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
        const isWanted = await answered(this.#send());
        this.#isEager = isWanted || this.#listened;
        failures = 0;
      } catch (error) {
        failures++;
        this.#news = "now";
        if (failures === TRIES_MAX) console.error(JSON.stringify({ event: "tell_failed", error: String(error) }));
        else await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** failures));
      }
    }
    // In one step with the last look for news: else what comes between would be told by nobody.
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
