/**
 * Sees to it that a line does not wait for news that never came: while somebody waits, cards are asked anew now and
 * then, and when a gate opens by time.
 */
import type { Clock } from "./clock.ts";

/** While requests wait, cards are asked anew this often: a lost report costs no longer. */
const ASK_AGAIN_MS = 5_000;
/** Cards asked at the same time. */
export const ASKED_AT_ONCE = 50;
/** So long after somebody waited, cards tell at once what becomes of their slots; else they take their time. */
const ATTENTIVE_MS = 10_000;

export class Lookout {
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

  /** Somebody waits, or did a moment ago. */
  get attentive(): boolean {
    return this.#someoneWaits() || this.#clock.now() < this.#attentiveUntil;
  }

  /** Somebody begins to wait. True when nobody did for a while: what the cards told may be old. */
  watch(): boolean {
    const now = this.#clock.now();
    const wasAttentive = now < this.#attentiveUntil;
    this.#attentiveUntil = now + ATTENTIVE_MS;
    this.wakeAt(null);
    return !wasAttentive;
  }

  /** A look at this time, or when cards are to be asked again, whichever comes first. */
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

  /** A few cards at a time, in turn. */
  some(names: string[]): string[] {
    const from = names.length === 0 ? 0 : this.#asked % names.length;
    this.#asked = from + ASKED_AT_ONCE;
    return [...names.slice(from), ...names.slice(0, from)].slice(0, ASKED_AT_ONCE);
  }
}
