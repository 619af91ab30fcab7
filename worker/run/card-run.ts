/**
 * One try at one card, under a lease: calls the origin, takes its answer and stores it. The lease is released here
 * exactly once: when the origin's answer has ended, or when the try is found to have failed.
 */
import type { Finish, Observed } from "../../durable-objects/pool-protocol.ts";
import { Copy } from "../results/copy.ts";
import type { Line } from "../dispatch.ts";
import { finishOf } from "./finish.ts";
import { keepLaid, layResult, type Laying } from "../results/lay.ts";
import type { Lease } from "./lease.ts";
import { type Call, callOrigin, failure, type Failure, isFailure } from "../origin.ts";
import { pump } from "./pump.ts";
import { record } from "./record.ts";
import type { Answer, Running } from "../run.ts";
import type { Reason } from "../refusal.ts";
import { type Head, isMedia, misfit, pieces, type Piece, type Whole } from "../results/pieces.ts";
import { keep, type Keeping, type Kept, NOTHING_KEPT, plan } from "../store.ts";
import { take, type TakenStream, type TakenWhole } from "./take.ts";
import { Watch } from "./watch.ts";

/** An origin notices an aborted call slightly later than we do; its slot is free only then. */
const CANCEL_SEEN_MS = 100;
/** Time for handing the slot to the next run before storing begins, which uses the same isolates and objects. */
const HANDOVER_MS = 8;

/** `others`: more requests wait for the slot that this run will release. */
export async function runOnCard(
  running: Running,
  line: Line,
  lease: Lease,
  others: boolean,
): Promise<Answer | Failure> {
  if (running.gone.aborted) {
    await lease.release({ clean: true, health: null, reason: null });
    return failure("client_gone", "no", true);
  }
  if (Date.now() >= (running.ask.deadlineAt ?? Number.POSITIVE_INFINITY)) {
    await lease.release({ clean: true, health: null, reason: null });
    return failure("queue_timeout", "no", true, { waited_s: Math.round((running.trace.stages.queue ?? 0) / 1000) });
  }
  const { trace } = running;
  trace.headers.set("x-portico-card", lease.grant.card);
  Object.assign(trace.fields, { card: lease.grant.card, lease: lease.grant.number });
  return new CardRun(running, line, lease, others).go();
}

class CardRun {
  readonly #running: Running;
  readonly #line: Line;
  readonly #lease: Lease;
  readonly #watch: Watch;
  readonly #sentAt = Date.now();
  readonly #others: boolean;

  constructor(running: Running, line: Line, lease: Lease, others: boolean) {
    this.#others = others;
    this.#running = running;
    this.#line = line;
    this.#lease = lease;
    this.#watch = new Watch(running, lease);
  }

  async go(): Promise<Answer | Failure> {
    const { ask, trace, config } = this.#running;
    let streaming = false;
    try {
      const route = { ...this.#lease.grant, access: config.access };
      const { controller, silence } = this.#watch;
      const reply = await callOrigin(ask, route, this.#call(), controller, silence);
      if (isFailure(reply)) return await this.#failed(this.#watch.callersFault() ?? reply);
      const taken = await take(reply, ask, silence);
      if (isFailure(taken)) return await this.#failed(taken);
      // The first bytes for the caller have arrived.
      const firstByteMs = Date.now() - this.#sentAt;
      trace.stages.origin = (trace.stages.origin ?? 0) + firstByteMs;
      if (taken.kind === "whole") {
        // On an error, the buffers are freed at once; nothing else would free them.
        return await this.#whole(taken, firstByteMs).catch((error: unknown) => {
          taken.room.free();
          throw error;
        });
      }
      const problem = misfit(ask, taken);
      if (problem !== null) return await this.#refuse(taken, problem);
      streaming = true;
      return this.#stream(taken, firstByteMs);
    } catch (error) {
      // An internal error must cost the card no more than draining its slot.
      this.#watch.controller.abort(error);
      await this.#lease.release({ clean: false, health: null, reason: "internal" });
      throw error;
    } finally {
      if (!streaming) this.#watch.end();
    }
  }

  #call(): Call {
    const { trace, print, clientAddress, base } = this.#running;
    return {
      requestId: trace.id,
      number: this.#lease.grant.number,
      clientAddress,
      base,
      cacheable: print.cacheable,
      readMs: this.#watch.readMs,
    };
  }

  async #failed(seen: Failure): Promise<Failure> {
    const failed = this.#watch.told(seen);
    await this.#release(failed);
    return failed;
  }

  /** Rejects a stream before the caller has received any of it. */
  async #refuse({ source, room }: TakenStream, problem: string): Promise<Failure> {
    room.free();
    await source.cancel();
    return this.#failed(failure("origin_invalid", "yes", false, { detail: problem }));
  }

  /** Releases the slot. `failed` is null when the answer was read to its end. */
  async #release(failed: Failure | null): Promise<void> {
    const isCut = failed !== null && !failed.clean && this.#watch.cancelled;
    if (isCut) await scheduler.wait(CANCEL_SEEN_MS);
    this.#running.trace.gpuMs += Math.max(0, Date.now() - this.#sentAt);
    if (failed === null) return this.#lease.release({ clean: true, health: "ok", reason: null });
    const { clean, reason } = failed;
    const { cancelled, brokeOff } = this.#watch;
    const ours = brokeOff || reason === "body_too_large" || reason === "invalid_field" || reason === "internal";
    await this.#lease.release({ clean: clean || cancelled, health: ours ? null : "failed", reason });
  }

  /**
   * A complete answer: check it, release the slot, store it, then answer. The order ensures that what the answer claims
   * to be stored survives a crash.
   */
  async #whole({ whole, room }: TakenWhole, firstByteMs: number): Promise<Answer | Failure> {
    const { trace, print, ctx } = this.#running;
    const found = pieces(this.#running.ask, whole);
    if ("problem" in found) {
      room.free();
      return this.#failed(failure("origin_invalid", "yes", true, { detail: found.problem }));
    }
    const observed: Observed = { firstByteMs, totalMs: Date.now() - this.#sentAt };
    ctx.waitUntil(this.#release(null));
    await this.#giveWay();
    try {
      const storedFrom = Date.now();
      const kept = await this.#keep(whole, found);
      trace.stages.store = Date.now() - storedFrom;
      ctx.waitUntil(this.#line.finished(finishOf(whole, kept), whole.status < 300 ? observed : null));
      const results = kept.results.map((row) => row.id);
      const ok = whole.status < 400;
      const reason = this.#unheard;
      const took = { bytes: reason === null ? whole.bytes.byteLength : 0, results: found.length, reason };
      await record(this.#running, ok ? "succeeded" : "failed", whole.status, results, ok ? "all" : "token", took);
      const cache = !print.cacheable ? "bypass" : kept.answer ? "stored" : "miss";
      return { status: whole.status, headers: whole.headers, body: whole.bytes, results, cache, unkept: null };
    } finally {
      room.free();
    }
  }

  /** Lets the slot's next run start before this run stores its results. */
  async #giveWay(): Promise<void> {
    if (this.#others) await scheduler.wait(HANDOVER_MS);
  }

  /** Why the answer reaches nobody: the caller disconnected, or was already told that the deadline passed. */
  get #unheard(): Reason | null {
    const { gone, ask } = this.#running;
    if (gone.aborted) return "client_gone";
    return Date.now() >= (ask.deadlineAt ?? Number.POSITIVE_INFINITY) ? "origin_timeout" : null;
  }

  async #keep(whole: Whole, found: Piece[]): Promise<Kept> {
    const { env, ask, print, keepAs } = this.#running;
    const isKept = print.cacheable || keepAs !== null;
    const nothing = found.length === 0 && !(isKept && whole.status === 200);
    if (ask.directives.noStore || nothing || whole.status >= 300) return NOTHING_KEPT;
    const keeping = this.#keeping();
    return keep(env, keeping, plan(keeping, whole, found), whole, found);
  }

  #keeping(): Keeping {
    const { ctx, ask, caller, trace, print, replace, base, keepAs } = this.#running;
    const ttlMs = ask.service.config.cache.ttl_s * 1000;
    const keepMs = keepAs === null ? ttlMs : ask.delivery.lifeMs;
    const own = keepAs === null ? null : { fingerprint: keepAs, shared: false, replace: false, ttlMs: keepMs, keepMs };
    const shared = print.cacheable && print.scope === "shared";
    const answer = print.cacheable ? { fingerprint: print.key, shared, replace, ttlMs, keepMs } : own;
    const later = (work: Promise<unknown>): void => ctx.waitUntil(work);
    return { ask, tenant: caller.tenant, requestId: trace.id, base, later, answer };
  }

  /** Streams the answer. The slot is released when the origin's answer ends; the result is stored after that. */
  #stream(taken: TakenStream, firstByteMs: number): Answer {
    const { ctx, print } = this.#running;
    const { status, headers, source, first, room, length, unkept } = taken;
    this.#watch.metDeadline();
    const copy = this.#copyOf(taken);
    const flow = pump({ source, first, room, length, silence: this.#watch.silence, copy });
    const after = async (): Promise<void> => {
      const { complete, problem, total, handed } = await flow.ended;
      const totalMs = Date.now() - this.#sentAt;
      this.#watch.end();
      const failed = complete ? null : this.#watch.told(brokenBy(problem));
      await this.#release(failed);
      await this.#giveWay();
      const kept = complete ? await this.#keepCopy(taken, copy) : NOTHING_KEPT;
      const finish: Finish =
        failed !== null ? { kind: "failed", reason: failed.reason } : { kind: kept.answer ? "stored" : "alone" };
      await this.#line.finished(finish, complete ? { firstByteMs, totalMs } : null);
      const state = complete ? "succeeded" : failed?.reason === "client_gone" ? "canceled" : "failed";
      const results = kept.results.map((row) => row.id);
      const isMade = complete && status < 400;
      const reason = failed?.reason ?? (handed < total ? "client_gone" : null);
      // When a stream was not stored, the number of results in it is unknown.
      const took = { bytes: handed, results: isMade ? results.length || null : 0, reason };
      await record(this.#running, state, status, results, isMade ? "all" : "token", took);
      await flow.drained;
    };
    ctx.waitUntil(after());
    const cache = print.cacheable ? "miss" : "bypass";
    return { status, headers, body: flow.readable, results: [], cache, unkept: this.#mayKeep(taken) ? unkept : null };
  }

  #copyOf(head: Head): Copy {
    const { env, ask, trace } = this.#running;
    const keeping = this.#keeping();
    const lay = (type: string): Laying => layResult(env, keeping, head, type);
    const { later } = keeping;
    return new Copy({ ask, head, requestId: trace.id, lay: this.#mayKeep(head) ? lay : null, later });
  }

  /** Whether any part of this answer will be stored if it completes. */
  #mayKeep(head: Head): boolean {
    const { ask, print, keepAs } = this.#running;
    const isMaking = isMedia(head) || ask.service.config.kind === "image";
    return (isMaking || print.cacheable || keepAs !== null) && head.status < 300 && !ask.directives.noStore;
  }

  /** Never throws: the caller has the answer, and the end of the run must be told whatever becomes of the copy. */
  async #keepCopy(head: Head, copy: Copy): Promise<Kept> {
    try {
      const copied = await copy.take();
      if (copied === null) return NOTHING_KEPT;
      if (copied.kind === "laid") return await keepLaid(this.#running.env, this.#keeping(), head, copied);
      const whole = { ...head, bytes: copied.bytes };
      const found = pieces(this.#running.ask, whole);
      return "problem" in found ? NOTHING_KEPT : await this.#keep(whole, found);
    } catch (error) {
      const { trace, ask } = this.#running;
      const of = { request: trace.id, service: ask.service.id };
      console.error(JSON.stringify({ event: "store_failed", ...of, error: String(error) }));
      return NOTHING_KEPT;
    } finally {
      copy.free();
    }
  }
}

function brokenBy(problem: string | null): Failure {
  return problem === null
    ? failure("origin_reset", "yes", false)
    : failure("origin_invalid", "yes", true, { detail: problem });
}
