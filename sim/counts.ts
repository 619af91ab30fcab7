/**
 * What a card really received: the tests' source of truth, so it only counts.
 *
 * A run is running from its start to its end, whether its caller is still connected or not. It ends exactly once, in
 * one of these ways: done; ghost (done after its caller had left); stopped (given up because its caller had left);
 * fault (made to fail by a test). At all times
 *
 *     starts = done + ghosts + stopped + failed + running
 *
 * and `over` counts the starts that made more requests run than the card has slots. Pure: no clock, no I/O; `now` is an
 * argument.
 */

/** The number of latest runs that a card remembers. */
export const RUNS_KEPT_MAX = 5_000;
/** The length of a prompt that is kept with a run. */
const PROMPT_CHARS_MAX = 200;

export type Ended = "done" | "ghost" | "stopped" | "fault";

export interface Run {
  /** The caller's X-Request-Id. */
  readonly id: string | null;
  /** The path as received, without its query. */
  readonly path: string;
  readonly started_at: number;
  readonly seed: number | null;
  readonly prompt: string | null;
  /** Whether it started beyond the card's slots. */
  readonly over: boolean;
  left_at: number | null;
  ended_at: number | null;
  ended: Ended | null;
}

/** Everything that can be summed over time and over cards; initially zero. */
const NOTHING = {
  over: 0,
  starts: 0,
  done: 0,
  failed: 0,
  stopped: 0,
  ghosts: 0,
  /** Time that GPUs worked for callers who had left. */
  ghost_ms: 0,
  /** Callers that left while their run was running. */
  left: 0,
  /** Requests that never became a run: bad input, unknown path, refused before the card. */
  refused: 0,
  /** The integral of `running` over time: two runs for one second are 2,000. */
  busy_ms: 0,
};
export type Sums = Readonly<typeof NOTHING>;
const NAMES = Object.keys(NOTHING) as (keyof Sums)[];

export function sumOf(all: readonly Sums[]): Sums {
  const sums = { ...NOTHING };
  for (const each of all) for (const name of NAMES) sums[name] += each[name];
  return sums;
}

export interface Counts extends Sums {
  readonly running: number;
  readonly highest: number;
  readonly starts_by_route: Readonly<Record<string, number>>;
}

/** Counts what runs on all cards together. */
export class ParkTally {
  running = 0;
  highest = 0;

  change(by: 1 | -1): void {
    this.running += by;
    this.highest = Math.max(this.highest, this.running);
  }

  reset(): void {
    this.highest = this.running;
  }
}

interface Start {
  readonly id: string | null;
  readonly path: string;
  readonly route: string;
  readonly seed?: number;
  readonly prompt?: string;
}

export class Ledger {
  readonly #slots: number;
  readonly #park: ParkTally;
  readonly #active = new Set<Run>();
  #runs: Run[] = [];
  #since = 0;
  #highest = 0;
  #sums = { ...NOTHING };
  #byRoute = new Map<string, number>();

  constructor(slots: number, park: ParkTally) {
    this.#slots = slots;
    this.#park = park;
  }

  get running(): number {
    return this.#active.size;
  }

  start(now: number, { id, path, route, seed, prompt }: Start): Run {
    this.#advance(now);
    const run: Run = {
      id,
      path,
      started_at: now,
      seed: seed ?? null,
      prompt: prompt?.slice(0, PROMPT_CHARS_MAX) ?? null,
      over: this.#active.size >= this.#slots,
      left_at: null,
      ended_at: null,
      ended: null,
    };
    this.#active.add(run);
    this.#park.change(1);
    this.#sums.starts += 1;
    if (run.over) this.#sums.over += 1;
    this.#highest = Math.max(this.#highest, this.#active.size);
    this.#byRoute.set(route, (this.#byRoute.get(route) ?? 0) + 1);
    this.#runs.push(run);
    if (this.#runs.length > RUNS_KEPT_MAX) this.#runs.shift();
    return run;
  }

  /** Records that the caller of a run has left. Idempotent; no effect after the run's end. */
  leave(run: Run, now: number): void {
    if (!this.#active.has(run) || run.left_at !== null) return;
    run.left_at = now;
    this.#sums.left += 1;
  }

  /** Ends a run. A done run whose caller has left counts as a ghost. */
  end(run: Run, now: number, how: "done" | "stopped" | "fault"): void {
    if (!this.#active.has(run)) return;
    this.#advance(now);
    this.#active.delete(run);
    this.#park.change(-1);
    run.ended_at = now;
    run.ended = how === "done" && run.left_at !== null ? "ghost" : how;
    if (run.ended === "done") this.#sums.done += 1;
    else if (run.ended === "stopped") this.#sums.stopped += 1;
    else if (run.ended === "fault") this.#sums.failed += 1;
    else {
      this.#sums.ghosts += 1;
      this.#sums.ghost_ms += now - (run.left_at ?? now);
    }
  }

  refuse(): void {
    this.#sums.refused += 1;
  }

  counts(now: number): Counts {
    this.#advance(now);
    return {
      running: this.#active.size,
      highest: this.#highest,
      ...this.#sums,
      ghost_ms: Math.round(this.#sums.ghost_ms),
      busy_ms: Math.round(this.#sums.busy_ms),
      starts_by_route: Object.fromEntries(this.#byRoute),
    };
  }

  /** The latest runs, oldest first; runs that are still running have no end yet. */
  runs(): readonly Readonly<Run>[] {
    return this.#runs.map((run) => ({ ...run }));
  }

  /** Resets the counts. Runs still in progress count as started, so that the equation above holds. */
  reset(now: number): void {
    this.#since = now;
    this.#runs = [...this.#active];
    this.#highest = this.#active.size;
    const left = this.#runs.filter((run) => run.left_at !== null).length;
    this.#sums = { ...NOTHING, starts: this.#active.size, left };
    this.#byRoute = new Map();
  }

  #advance(now: number): void {
    if (this.#since > 0) this.#sums.busy_ms += this.#active.size * Math.max(0, now - this.#since);
    this.#since = now;
  }
}
