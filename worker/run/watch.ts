/**
 * Aborts a card's call before its answer has ended: because of the read timeout, the service's limit on a run, a
 * caller who disconnects, the caller's deadline, a request body that stops arriving, or a lost lease. Also decides what
 * the end of an aborted call means.
 */
import type { Lease } from "./lease.ts";
import { failure, type Failure } from "../origin.ts";
import type { Running } from "../run.ts";
import { detail } from "../details.ts";
import { RUN_S_MAX } from "../services/service.ts";
import { ReadTimeout } from "./read-timeout.ts";

/** How long a run continues after its caller disconnects; the platform ends everything after 30 s. */
const ABANDONED_MS = 25_000;
/** How long a caller whose body streams through may be silent, and how long the upload may take in all. */
const UPLOAD_SILENCE_MS = 30_000;
const UPLOAD_MS_MAX = 600_000;

export class Watch {
  readonly controller = new AbortController();
  readonly readTimeout: ReadTimeout;
  readonly #running: Running;
  readonly #sentAt = Date.now();
  /** Timers and listeners to remove at the end. */
  readonly #stops: (() => void)[] = [];
  #metDeadline: () => void = () => undefined;
  #cancelled = false;
  #leaseLost = false;
  /** The run has reached the limit on its duration. */
  #overran = false;

  constructor(running: Running, lease: Lease) {
    this.#running = running;
    this.readTimeout = new ReadTimeout(this.readMs, this.controller);
    lease.lost = () => {
      this.#leaseLost = true;
      this.controller.abort(new Error("the lease is lost"));
    };
    this.#after(this.#runS * 1000, () => {
      this.#overran = true;
      this.controller.abort(new Error("the longest run"));
    });
    this.#watchCaller();
    this.#watchUpload();
  }

  /** Longest duration of a run, seconds. Services stored by an older version have no such setting. */
  get #runS(): number {
    return this.#running.ask.service.config.timeouts.run_s ?? RUN_S_MAX;
  }

  /** The read timeout: longest silence of the origin, ms. */
  get readMs(): number {
    return this.#running.ask.service.config.timeouts.read_s * 1000;
  }

  /** The call was aborted at an origin that stops its work when its connection closes. */
  get cancelled(): boolean {
    return this.#cancelled;
  }

  /** Whether we aborted the call for a reason other than a slow origin, so that its end says nothing about the card. */
  get brokeOff(): boolean {
    return this.controller.signal.aborted && !this.readTimeout.expired && !this.#overran;
  }

  /** Called at the first byte: the deadline no longer applies. */
  metDeadline(): void {
    this.#metDeadline();
  }

  end(): void {
    this.readTimeout.stop();
    for (const stop of this.#stops) stop();
  }

  /** Returns the real cause of a failure when we aborted the call ourselves, wherever the abort was noticed. */
  told(seen: Failure): Failure {
    if (this.#overran) return failure("origin_timeout", seen.started, seen.clean, { run_s: this.#runS });
    if (seen.clean) return seen;
    if (this.readTimeout.expired) return failure("origin_timeout", "unknown", false, { read_s: this.readMs / 1000 });
    if (!this.brokeOff) return seen;
    return failure(this.#leaseLost ? "origin_reset" : "client_gone", "unknown", false);
  }

  /** Returns a failure when the caller's body was too large or stopped arriving; that says nothing about the card. */
  callersFault(): Failure | null {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return null;
    const { refusal, turn } = body.upload;
    if (refusal !== null) return failure(refusal.reason, "no", true, refusal.facts);
    if (!this.readTimeout.expired || turn === "origin") return null;
    return { ...failure("invalid_field", "no", true, detail("late")), param: "body" };
  }

  /** Handles the caller's disconnect and the caller's deadline. */
  #watchCaller(): void {
    const { ask, gone } = this.#running;
    const leave = (): void => {
      if (ask.service.config.abandon === "cancel") {
        this.#cancelled = true;
        this.controller.abort(new Error("the caller is gone"));
      } else this.#after(ABANDONED_MS, () => this.controller.abort(new Error("abandoned")));
    };
    gone.addEventListener("abort", leave, { once: true });
    this.#stops.push(() => gone.removeEventListener("abort", leave));
    if (ask.deadlineAt !== null) this.#metDeadline = this.#after(Math.max(0, ask.deadlineAt - Date.now()), leave);
  }

  /**
   * Limits an upload that streams through, because it occupies a slot: its caller may be silent only for a shorter time
   * than an origin, and the upload has a total time limit.
   */
  #watchUpload(): void {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return;
    body.upload.broken = () => this.controller.abort(new Error("the caller's body broke off"));
    body.upload.turned = () => {
      if (body.upload.turn === "origin") this.readTimeout.reset();
      else this.readTimeout.reset(Math.max(0, Math.min(UPLOAD_SILENCE_MS, this.#sentAt + UPLOAD_MS_MAX - Date.now())));
    };
  }

  #after(ms: number, then: () => void): () => void {
    const timer = setTimeout(then, ms);
    const stop = (): void => clearTimeout(timer);
    this.#stops.push(stop);
    return stop;
  }
}
