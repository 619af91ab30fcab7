/** A clock for tests: timers follow a time that only moves forward, `now` may jump in either direction. */
import type { Clock } from "../../durable-objects/clock.ts";

interface Timer {
  at: number;
  seq: number;
  run: () => void;
}

export class FakeClock implements Clock {
  #passed = 0;
  #wall = 1_000_000_000;
  #seq = 0;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#wall;
  }

  /** Milliseconds since the start, unaffected by jumps. */
  get passed(): number {
    return this.#passed;
  }

  get timers(): number {
    return this.#timers.size;
  }

  after(ms: number, then: () => void): () => void {
    const timer = { at: this.#passed + Math.max(0, ms), seq: ++this.#seq, run: then };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  jump(ms: number): void {
    this.#wall += ms;
  }

  /** Lets time pass. Due timers run at their times, including those set meanwhile. */
  pass(ms: number): void {
    const until = this.#passed + ms;
    for (let next = this.#first(until); next !== null; next = this.#first(until)) {
      this.#forward(next.at);
      this.#timers.delete(next);
      next.run();
    }
    this.#forward(until);
  }

  #forward(to: number): void {
    this.#wall += to - this.#passed;
    this.#passed = to;
  }

  #first(until: number): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (timer.at > until) continue;
      if (first === null || timer.at < first.at || (timer.at === first.at && timer.seq < first.seq)) first = timer;
    }
    return first;
  }
}
