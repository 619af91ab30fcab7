/**
 * Keeps the queue from waiting for reports that were lost: while anybody waits, cards are polled now and then, and the
 * queue is checked again when a breaker becomes half-open.
 */
import type { Clock } from "./clock.ts";

/** Interval between polls while requests wait; bounds the cost of a lost report. */
const ASK_AGAIN_MS = 5_000;
/** Maximum number of cards asked at once. */
export const ASKED_AT_ONCE = 50;
/** For this long after somebody waited, cards report changes at once; after that they may delay them. */
const ATTENTIVE_MS = 10_000;

export class ReportPoller {
  readonly #clock: Clock;
  readonly #someoneWaits: () => boolean;
  readonly #look: () => void;
  #asked = 0;
  #attentiveUntil = 0;
  #timer: { at: number; stop: () => void } | null = null;

  constructor(clock: Clock, someoneWaits: () => boolean, look: () => void) {
    this.#clock = clock;
    this.#someoneWaits = someoneWaits;
    this.#look = look;
  }

  /** Whether anybody is waiting or was a moment ago. */
  get attentive(): boolean {
    return this.#someoneWaits() || this.#clock.now() < this.#attentiveUntil;
  }

  /** Called when a ticket starts to wait. Returns true if none did for a while: the cards' reports may be outdated. */
  watch(): boolean {
    const now = this.#clock.now();
    const wasAttentive = now < this.#attentiveUntil;
    this.#attentiveUntil = now + ATTENTIVE_MS;
    this.wakeAt(null);
    return !wasAttentive;
  }

  /** Schedules a check for this time or the next poll, whichever comes first. */
  wakeAt(openingAt: number | null): void {
    const now = this.#clock.now();
    const at = Math.min(openingAt ?? Number.POSITIVE_INFINITY, now + ASK_AGAIN_MS);
    if (this.#timer !== null && this.#timer.at <= at) return;
    this.#timer?.stop();
    const stop = this.#clock.after(Math.max(0, at - now), () => {
      this.#timer = null;
      if (this.#someoneWaits()) this.#look();
    });
    this.#timer = { at, stop };
  }

  /** The next cards to poll, round-robin. */
  some(names: string[]): string[] {
    const from = names.length === 0 ? 0 : this.#asked % names.length;
    this.#asked = from + ASKED_AT_ONCE;
    return [...names.slice(from), ...names.slice(0, from)].slice(0, ASKED_AT_ONCE);
  }
}
