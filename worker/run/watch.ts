/**
 * What can end a call to a card before its answer has ended: the origin's silence, the caller who goes, the deadline
 * that he set, his own body that does not come, a lost lease. And what the end of a call that was broken off means.
 */
import type { Lease } from "./lease.ts";
import { failure, type Failure } from "../origin.ts";
import type { Running } from "../run.ts";
import { Silence } from "./silence.ts";

/** How long a run goes on for a caller who is gone: the platform ends everything 30 s after him. */
const ABANDONED_MS = 25_000;
/** A caller whose body goes through to the origin may be silent so long, and take so long in all. */
const UPLOAD_SILENCE_MS = 30_000;
const UPLOAD_MS_MAX = 600_000;

export class Watch {
  readonly controller = new AbortController();
  readonly silence: Silence;
  readonly #running: Running;
  readonly #sentAt = Date.now();
  /** Timers and listeners to take down at the end. */
  readonly #stops: (() => void)[] = [];
  #metDeadline: () => void = () => undefined;
  #cancelled = false;
  #leaseLost = false;

  constructor(running: Running, lease: Lease) {
    this.#running = running;
    this.silence = new Silence(this.readMs, this.controller);
    lease.lost = () => {
      this.#leaseLost = true;
      this.controller.abort(new Error("the lease is lost"));
    };
    this.#watchCaller();
    this.#watchUpload();
  }

  /** Longest silence of the origin, ms. */
  get readMs(): number {
    return this.#running.ask.service.config.timeouts.read_s * 1000;
  }

  /** The call was aborted for good, at an origin that stops then. */
  get cancelled(): boolean {
    return this.#cancelled;
  }

  /** We ended the call ourselves, and not for the origin's silence: that says nothing of the card. */
  get brokeOff(): boolean {
    return this.controller.signal.aborted && !this.silence.lapsed;
  }

  /** The first byte is there: what comes after it has no deadline. */
  metDeadline(): void {
    this.#metDeadline();
  }

  end(): void {
    this.silence.stop();
    for (const stop of this.#stops) stop();
  }

  /** A call that we broke off ourselves fails as such, wherever the break was noticed. */
  told(seen: Failure): Failure {
    if (seen.clean) return seen;
    if (this.silence.lapsed) return failure("origin_timeout", "unknown", false, { read_s: this.readMs / 1000 });
    if (!this.brokeOff) return seen;
    return failure(this.#leaseLost ? "origin_reset" : "client_gone", "unknown", false);
  }

  /** A body that turned out too long, or stopped coming, says nothing of the card. */
  callersFault(): Failure | null {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return null;
    const { refusal, turn } = body.upload;
    if (refusal !== null) return failure(refusal.reason, "no", true, refusal.facts);
    if (!this.silence.lapsed || turn === "origin") return null;
    return { ...failure("invalid_field", "no", true, { detail: "did not arrive in time" }), param: "body" };
  }

  /** What happens to the run when its caller goes, or the caller's deadline lapses. */
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

  /** A body that goes through keeps a slot: its caller may not be silent as long as an origin, nor send for ever. */
  #watchUpload(): void {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return;
    body.upload.broken = () => this.controller.abort(new Error("the caller's body broke off"));
    body.upload.turned = () => {
      if (body.upload.turn === "origin") this.silence.heard();
      else this.silence.heard(Math.max(0, Math.min(UPLOAD_SILENCE_MS, this.#sentAt + UPLOAD_MS_MAX - Date.now())));
    };
  }

  #after(ms: number, then: () => void): () => void {
    const timer = setTimeout(then, ms);
    const stop = (): void => clearTimeout(timer);
    this.#stops.push(stop);
    return stop;
  }
}
