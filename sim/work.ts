/**
 * A run in progress on a GPU. It lasts its service time whether its caller stays or not, unless it is cut short:
 * interrupted (it returns what it has), stopped (its caller left, and ghosts are disabled) or killed (the card died).
 */
import { nowMs, sleep } from "./clock.ts";
import type { Ledger, Run } from "./counts.ts";
import type { Sketch } from "./picture.ts";

export type Cut = "interrupted" | "stopped" | "killed";

interface Setting {
  readonly ledger: Ledger;
  readonly run: Run;
  readonly ms: number;
  readonly ghost: boolean;
  readonly task: string | null;
  readonly sketch: Sketch | null;
  /** Called once, when the slot is free again. */
  readonly ended: (work: Work) => void;
}

export class Work {
  readonly run: Run;
  readonly ms: number;
  readonly task: string | null;
  readonly sketch: Sketch | null;
  /** Resolves when `gone` is aborted. */
  readonly whenGone: Promise<void>;
  readonly #setting: Setting;
  readonly #gone = new AbortController();
  readonly #woken = new AbortController();
  #cut: Cut | null = null;

  constructor(setting: Setting) {
    this.run = setting.run;
    this.ms = setting.ms;
    this.task = setting.task;
    this.sketch = setting.sketch;
    this.#setting = setting;
    this.whenGone = new Promise((resolve) =>
      this.#gone.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
  }

  get cut(): Cut | null {
    return this.#cut;
  }

  /** Aborted when nobody can receive the answer any more: the caller left, or the card died. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get progress(): number {
    return this.ms <= 0 ? 1 : Math.min(1, Math.max(0, (nowMs() - this.run.started_at) / this.ms));
  }

  /** Waits until `ms` after the start, or until the run is cut short. */
  async until(ms: number): Promise<void> {
    const rest = this.run.started_at + ms - nowMs();
    if (rest > 0) await sleep(rest, this.#woken.signal);
  }

  left(): void {
    if (this.run.ended !== null) return;
    this.#setting.ledger.leave(this.run, nowMs());
    this.#gone.abort();
    if (!this.#setting.ghost) {
      this.#cutShort("stopped");
      this.end("stopped");
    }
  }

  interrupt(): void {
    this.#cutShort("interrupted");
  }

  kill(): void {
    this.#cutShort("killed");
    this.end("fault");
    this.#gone.abort();
  }

  /** Ends the run and frees the slot. Idempotent. */
  end(how: "done" | "stopped" | "fault"): void {
    if (this.run.ended !== null) return;
    this.#setting.ledger.end(this.run, nowMs(), how);
    this.#setting.ended(this);
  }

  #cutShort(cut: Cut): void {
    if (this.#cut !== null || this.run.ended !== null) return;
    this.#cut = cut;
    this.#woken.abort();
  }
}
