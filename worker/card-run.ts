/**
 * One try at one card, under a lease: the call, the answer, its keeping. The lease is released here exactly once, when
 * the origin's answer has ended, or by whoever finds that it did not.
 */
import type { Finish, Observed } from "../durable-objects/protocol.ts";
import { keepNear } from "./cache.ts";
import type { Lease, Line } from "./dispatch.ts";
import { finishOf } from "./finish.ts";
import { type Call, callOrigin, failure, type Failure, isFailure } from "./origin.ts";
import { pump } from "./pump.ts";
import { record } from "./record.ts";
import type { Reason } from "./refusal.ts";
import type { Answer, Running } from "./run.ts";
import { keep, type Kept, pieces, type Piece, type Whole } from "./store.ts";
import { take, type TakenStream, type TakenWhole } from "./take.ts";
import { Silence } from "./silence.ts";

/** How long a run goes on for a caller who is gone: the platform ends everything 30 s after him. */
const ABANDONED_MS = 25_000;
/** An origin sees the end of a cancelled call a moment after us; only then its slot is free. */
const CANCEL_SEEN_MS = 100;
/** A caller whose body goes through to the origin may be silent so long, and take so long in all. */
const UPLOAD_SILENCE_MS = 30_000;
const UPLOAD_MS_MAX = 600_000;

export async function runOnCard(running: Running, line: Line, lease: Lease): Promise<Answer | Failure> {
  if (running.gone.aborted) {
    await lease.release({ clean: true, health: null, reason: null });
    return failure("client_gone", "no", true);
  }
  const { trace } = running;
  trace.headers.set("x-portico-card", lease.grant.card);
  Object.assign(trace.fields, { card: lease.grant.card, lease: lease.grant.number });
  record(running, "running", null, []);
  return new CardRun(running, line, lease).go();
}

class CardRun {
  readonly #running: Running;
  readonly #line: Line;
  readonly #lease: Lease;
  readonly #controller = new AbortController();
  readonly #silence: Silence;
  readonly #sentAt = Date.now();
  /** Timers and listeners to take down at the end. */
  readonly #watches: (() => void)[] = [];
  /** The first byte is there: what comes after it has no deadline. */
  #metDeadline: () => void = () => undefined;
  /** The call was aborted for good, at an origin that stops then. */
  #cancelled = false;
  /** The Card gave the slot up for ours. */
  #leaseLost = false;

  constructor(running: Running, line: Line, lease: Lease) {
    this.#running = running;
    this.#line = line;
    this.#lease = lease;
    this.#silence = new Silence(this.#readMs, this.#controller);
    lease.lost = () => {
      this.#leaseLost = true;
      this.#controller.abort(new Error("the lease is lost"));
    };
    this.#watchCaller();
    this.#watchUpload();
  }

  get #readMs(): number {
    return this.#running.ask.service.config.timeouts.read_s * 1000;
  }

  async go(): Promise<Answer | Failure> {
    const { ask, trace, config } = this.#running;
    let streaming = false;
    try {
      const route = { ...this.#lease.grant, access: config.access };
      const reply = await callOrigin(ask, route, this.#call(), this.#controller, this.#silence);
      if (isFailure(reply)) return await this.#failed(this.#callersFault() ?? reply);
      const taken = await take(reply, ask, this.#silence);
      if (isFailure(taken)) return await this.#failed(taken);
      // What the caller gets first is there now.
      const firstByteMs = Date.now() - this.#sentAt;
      trace.stages.origin = (trace.stages.origin ?? 0) + firstByteMs;
      if (taken.kind === "whole") return await this.#whole(taken, firstByteMs);
      streaming = true;
      return this.#stream(taken, firstByteMs);
    } catch (error) {
      // A fault of ours must not cost the card more than its draining.
      this.#controller.abort(error);
      await this.#lease.release({ clean: false, health: null, reason: "internal" });
      throw error;
    } finally {
      if (!streaming) this.#unwatch();
    }
  }

  #call(): Call {
    const { trace, print, clientAddress, base } = this.#running;
    const { host, protocol } = new URL(base);
    return {
      requestId: trace.id,
      number: this.#lease.grant.number,
      clientAddress,
      publicHost: host,
      publicProtocol: protocol.slice(0, -1),
      cacheable: print.cacheable,
      readMs: this.#readMs,
    };
  }

  /** What happens to the run when its caller goes, or the caller's deadline lapses. */
  #watchCaller(): void {
    const { ask, gone } = this.#running;
    const after = (ms: number, then: () => void): void => {
      const timer = setTimeout(then, ms);
      this.#watches.push(() => clearTimeout(timer));
    };
    const leave = (): void => {
      if (ask.service.config.abandon === "cancel") {
        this.#cancelled = true;
        this.#controller.abort(new Error("the caller is gone"));
      } else after(ABANDONED_MS, () => this.#controller.abort(new Error("abandoned")));
    };
    gone.addEventListener("abort", leave, { once: true });
    this.#watches.push(() => gone.removeEventListener("abort", leave));
    if (ask.deadlineAt === null) return;
    const deadline = setTimeout(leave, Math.max(0, ask.deadlineAt - Date.now()));
    this.#metDeadline = () => clearTimeout(deadline);
    this.#watches.push(this.#metDeadline);
  }

  #unwatch(): void {
    this.#silence.stop();
    for (const stop of this.#watches) stop();
  }

  /** A body that goes through keeps a slot: its caller may not be silent as long as an origin, nor send for ever. */
  #watchUpload(): void {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return;
    body.upload.turned = () => {
      if (body.upload.turn === "origin") this.#silence.heard();
      else if (Date.now() - this.#sentAt < UPLOAD_MS_MAX) this.#silence.heard(UPLOAD_SILENCE_MS);
    };
  }

  /** A body that turned out too long, or stopped coming, says nothing of the card. */
  #callersFault(): Failure | null {
    const { body } = this.#running.ask;
    if (body.kind !== "stream") return null;
    const { refusal, turn } = body.upload;
    if (refusal !== null) return failure(refusal.reason, "no", true, refusal.facts);
    if (!this.#silence.lapsed || turn === "origin") return null;
    return { ...failure("invalid_field", "no", true, { detail: "did not arrive in time" }), param: "body" };
  }

  async #failed(seen: Failure): Promise<Failure> {
    const failed = this.#brokenOff(seen);
    const ours = this.#brokeOff || failed.reason === "body_too_large" || failed.reason === "invalid_field";
    if (this.#cancelled && !failed.clean) await scheduler.wait(CANCEL_SEEN_MS);
    await this.#lease.release({
      clean: failed.clean || this.#cancelled,
      health: ours ? null : "failed",
      reason: failed.reason,
    });
    return failed;
  }

  /** We ended the call ourselves, and not for the origin's silence: that says nothing of the card. */
  get #brokeOff(): boolean {
    return this.#controller.signal.aborted && !this.#silence.lapsed;
  }

  /** A call that we broke off ourselves fails as such, wherever the break was noticed. */
  #brokenOff(seen: Failure): Failure {
    if (seen.clean) return seen;
    if (this.#silence.lapsed) return failure("origin_timeout", "unknown", false, { read_s: this.#readMs / 1000 });
    if (!this.#brokeOff) return seen;
    return failure(this.#leaseLost ? "origin_reset" : "client_gone", "unknown", false);
  }

  /** A complete answer: checked, its slot given back, kept, answered. */
  async #whole({ whole, room }: TakenWhole, firstByteMs: number): Promise<Answer | Failure> {
    const { ask, trace, print, ctx } = this.#running;
    try {
      const found = pieces(ask, whole);
      if ("problem" in found)
        return await this.#failed(failure("origin_invalid", "yes", true, { detail: found.problem }));
      const observed: Observed = { firstByteMs, totalMs: Date.now() - this.#sentAt };
      ctx.waitUntil(this.#lease.release({ clean: true, health: "ok", reason: null }));
      const storedFrom = Date.now();
      const kept = await this.#keep(whole, found);
      trace.stages.store = Date.now() - storedFrom;
      ctx.waitUntil(this.#line.finished(finishOf(whole, kept), whole.status < 300 ? observed : null));
      const results = kept.results.map((row) => row.id);
      const ok = whole.status < 400;
      record(this.#running, ok ? "succeeded" : "failed", whole.status, results, ok ? "all" : "token");
      const cache = !print.cacheable ? "bypass" : kept.answer === null ? "miss" : "stored";
      return { status: whole.status, headers: whole.headers, body: whole.bytes, results, cache };
    } finally {
      room.free();
    }
  }

  async #keep(whole: Whole, found: Piece[]): Promise<Kept> {
    const { env, ctx, ask, caller, trace, print, base, replace } = this.#running;
    const nothing = found.length === 0 && !(print.cacheable && whole.status === 200);
    if (ask.directives.noStore || nothing || whole.status >= 300) return { results: [], answer: null };
    const answer = print.cacheable ? { fingerprint: print.key, shared: print.scope === "shared", replace } : null;
    const now = Date.now();
    const later = (work: Promise<unknown>): void => ctx.waitUntil(work);
    const kept = await keep(env, { ask, tenant: caller.tenant, requestId: trace.id, later, answer }, whole, found, now);
    if (kept.answer !== null) later(keepNear(base, kept.answer.key, whole.bytes, kept.answer.meta, now));
    return kept;
  }

  /** Handed on as it comes; the slot is free at the origin's end, the result is kept after it. */
  #stream(taken: TakenStream, firstByteMs: number): Answer {
    const { ctx, print } = this.#running;
    const { status, headers, reader, first, length, endKnown } = taken;
    this.#metDeadline();
    const flow = pump(reader, first, length, this.#silence);
    const after = async (): Promise<void> => {
      const { complete, bytes } = await flow.ended;
      const totalMs = Date.now() - this.#sentAt;
      this.#unwatch();
      const lost = complete ? null : this.#brokenOff(failure("origin_reset", "yes", false)).reason;
      await this.#releaseStream(lost);
      const kept = bytes === null ? NOTHING_KEPT : await this.#keepStream({ status, headers, bytes, endKnown });
      const finish: Finish =
        lost !== null
          ? { kind: "failed", reason: lost }
          : kept.answer === null
            ? { kind: "alone" }
            : { kind: "stored" };
      await this.#line.finished(finish, complete ? { firstByteMs, totalMs } : null);
      const state = complete ? "succeeded" : lost === "client_gone" ? "canceled" : "failed";
      record(
        this.#running,
        state,
        status,
        kept.results.map((row) => row.id),
        complete && status < 400 ? "all" : "token",
      );
      await flow.drained;
    };
    ctx.waitUntil(after());
    return { status, headers, body: flow.readable, results: [], cache: print.cacheable ? "miss" : "bypass" };
  }

  async #keepStream(whole: Whole): Promise<Kept> {
    const found = pieces(this.#running.ask, whole);
    return "problem" in found ? NOTHING_KEPT : this.#keep(whole, found);
  }

  /** Null: it came to its end. */
  async #releaseStream(lost: Reason | null): Promise<void> {
    const health = lost === null ? "ok" : this.#brokeOff ? null : "failed";
    if (this.#cancelled && lost !== null) await scheduler.wait(CANCEL_SEEN_MS);
    await this.#lease.release({ clean: lost === null || this.#cancelled, health, reason: lost });
  }
}

const NOTHING_KEPT: Kept = { results: [], answer: null };
