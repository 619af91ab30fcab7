/**
 * The time source of the pure code. `now` is the wall clock and may jump either way; `after` ignores jumps. An object
 * may have 10,000 timers; this uses one for all waiters.
 */
import { SortedMap } from "./sorted-map.ts";

export interface Clock {
  /** ms since the epoch. */
  now(): number;
  /** Returns a function that cancels the timer. */
  after(ms: number, then: () => void): () => void;
}

/** Longest platform timer, so that a stopped process or a clock jump is noticed. */
const SLEEP_MS_MAX = 1_000;
/** How late a timer of a busy object may fire. A later one means that the process stopped or the clock was set. */
const LATE_MS_MAX = 5_000;

type Due = [at: number, seq: number];

/** A clock with one platform timer. */
export class Timers implements Clock {
  readonly #due = new SortedMap<Due, () => void>(undefined, (a, b) => a[0] - b[0] || a[1] - b[1]);
  /** Time passed while timers were pending, without jumps, ms. */
  #passed = 0;
  #seq = 0;
  /** The wall clock at the last look. */
  #lookedAt = 0;
  #sleep: { until: number; handle: ReturnType<typeof setTimeout> } | null = null;

  now(): number {
    return Date.now();
  }

  after(ms: number, then: () => void): () => void {
    this.#look();
    const due: Due = [this.#passed + Math.max(0, ms), ++this.#seq];
    this.#due.set(due, then);
    this.#rest();
    return () => void this.#due.delete(due);
  }

  /** Adds the time since the last look. */
  #look(slept = 0): void {
    const now = Date.now();
    const passed = now - this.#lookedAt;
    const isPlausible = passed >= slept && passed <= slept + LATE_MS_MAX;
    // No timer was pending since the last look: there is nothing to add.
    if (this.#sleep !== null || slept > 0) this.#passed += isPlausible ? passed : slept;
    this.#lookedAt = now;
  }

  /** Sleeps until the next timer is due. */
  #rest(): void {
    const next = this.#due.minKey();
    if (next === undefined) return;
    const ms = Math.min(SLEEP_MS_MAX, Math.max(0, next[0] - this.#passed));
    const until = this.#passed + ms;
    if (this.#sleep !== null) {
      if (this.#sleep.until <= until) return;
      clearTimeout(this.#sleep.handle);
    }
    this.#sleep = { until, handle: setTimeout(() => this.#wake(until), ms) };
  }

  #wake(until: number): void {
    this.#sleep = null;
    this.#look(Math.max(0, until - this.#passed));
    const last = this.#seq;
    try {
      for (let key = this.#due.minKey(); key !== undefined && key[0] <= this.#passed; key = this.#due.minKey()) {
        // Timers added during this wake-up are left for the next.
        if (key[1] > last) break;
        const then = this.#due.get(key);
        this.#due.delete(key);
        then?.();
      }
    } finally {
      this.#rest();
    }
  }
}
