/**
 * Connects a run with its Job object. Reports to the Job when a card took the run, how far it is, and when the card
 * failed and the run is back in line; keeps the run's final report for the caller (`lastWord`). In the other direction
 * it asks the Job whether the run is still wanted; if not, the run is aborted as if its caller had disconnected.
 */
import type { JobError, JobSpec } from "../../durable-objects/job-protocol.ts";
import type { Env } from "../env.ts";
import type { Grant } from "../run/lease.ts";
import { catalog } from "../services/catalog.ts";
import { repeated } from "../results/repeated.ts";
import type { RunEnd } from "../run.ts";
import type { Trace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { interrupt, progressOf } from "./progress.ts";

/**
 * Longest wait of one call that asks whether the run is still wanted. These calls also tell the Job that the run is
 * alive.
 */
const ASK_MS = 10_000;
const ASK_AGAIN_MS = 1_000;
/** How often an origin is asked for progress while a client follows the job, and while none does. */
const PROGRESS_MS = 500;
const PROGRESS_UNFOLLOWED_MS = 3_000;
/** The final report of a run arrives shortly after its answer. */
const LAST_WORD_MS = 30_000;

export class Follow {
  readonly #env: Env;
  readonly #spec: JobSpec;
  readonly #number: number;
  readonly trace: Trace;
  readonly #gone = new AbortController();
  readonly #lastWord = Promise.withResolvers<RunEnd>();
  #over = false;
  #stopped = false;
  /** The lease of the card that runs it now. */
  #grant: Grant | null = null;
  #begun = false;
  /** Resolves when the last report about cards has been sent; the next one waits for it. */
  #told: Promise<void> = Promise.resolve();
  #deadline: ReturnType<typeof setTimeout> | null = null;
  #tooLate = false;
  #unserved = false;

  constructor(env: Env, spec: JobSpec, number: number, trace: Trace) {
    this.trace = trace;
    this.#env = env;
    this.#spec = spec;
    this.#number = number;
    void this.#watch();
  }

  /** Aborted when the run is no longer wanted. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** The run did not start before its deadline. */
  get tooLate(): boolean {
    return this.#tooLate;
  }

  /** The job's service was deleted. */
  get unserved(): boolean {
    return this.#unserved;
  }

  /** A card has begun the run. */
  get isBegun(): boolean {
    return this.#begun;
  }

  startBy(at: number): void {
    this.#deadline = setTimeout(
      () => {
        if (this.isBegun) return;
        this.#tooLate = true;
        this.#gone.abort(new Error("not started in time"));
      },
      Math.max(0, at - Date.now()),
    );
  }

  /** `concurrent`: how many jobs of the service the tenant may run at once. */
  started(grant: Grant, concurrent: number): void {
    this.#grant = grant;
    this.#begun = true;
    const job = this.#env.JOB.getByName(this.#spec.id);
    this.#tell("start_report_failed", () => job.started(this.#number, grant.card, concurrent));
    void this.#watchProgress(grant);
  }

  /** The card failed, and the run is back in line. */
  requeued(error: JobError): void {
    const card = this.#grant?.card;
    if (card === undefined) return;
    this.#grant = null;
    this.#tell("requeue_report_failed", () =>
      this.#env.JOB.getByName(this.#spec.id).requeued(this.#number, card, error),
    );
  }

  #tell(missed: string, report: () => Promise<void>): void {
    const tell = (): Promise<void> => repeated(() => withTimeout(report()));
    this.#told = this.#told.then(tell).catch((error: unknown) => this.#missed(missed, error));
  }

  ended(end: RunEnd): void {
    this.#lastWord.resolve(end);
  }

  async lastWord(): Promise<RunEnd> {
    return withTimeout(this.#lastWord.promise, LAST_WORD_MS);
  }

  end(): void {
    this.#over = true;
    if (this.#deadline !== null) clearTimeout(this.#deadline);
  }

  /** Polls until the end whether the run is still wanted. */
  async #watch(): Promise<void> {
    while (!this.#over) {
      try {
        const stopped = await withTimeout(
          this.#env.JOB.getByName(this.#spec.id).stopped(this.#number, ASK_MS),
          2 * ASK_MS,
        );
        if (this.#over) return;
        if (!stopped && (await this.#isServed())) continue;
        if (!stopped) {
          this.#unserved = true;
          this.#gone.abort(new Error("the service is gone"));
          return;
        }
        this.#stopped = true;
        // Interrupts only while this run holds the slot and no other work is on the card.
        if (this.#grant !== null) await interrupt(this.#env, this.#grant, this.#spec, () => !this.#over);
        this.#gone.abort(new Error("the job is over"));
        return;
      } catch (error) {
        this.#missed("job_unreachable", error);
        await scheduler.wait(ASK_AGAIN_MS);
      }
    }
  }

  /** Whether the job's service still exists. */
  async #isServed(): Promise<boolean> {
    return (await catalog(this.#env)).some(({ id }) => id === this.#spec.service);
  }

  async #watchProgress(grant: Grant): Promise<void> {
    let isFollowed = true;
    while (!this.#over && this.#grant === grant && !this.#stopped) {
      await scheduler.wait(isFollowed ? PROGRESS_MS : PROGRESS_UNFOLLOWED_MS);
      if (this.#over) return;
      try {
        const progress = await progressOf(this.#env, grant, this.#spec);
        if (progress === "unknown") return;
        if (progress === null) continue;
        isFollowed = await withTimeout(this.#env.JOB.getByName(this.#spec.id).progressed(this.#number, progress));
      } catch (error) {
        this.#missed("progress_failed", error);
        return;
      }
    }
  }

  #missed(event: string, error: unknown): void {
    console.warn(JSON.stringify({ event, job: this.#spec.id, error: String(error) }));
  }
}
