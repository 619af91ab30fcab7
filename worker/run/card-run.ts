/**
 * One try at one card, under a lease: calls the origin, takes its answer and stores it. The lease is released here
 * exactly once: when the origin's answer has ended, or when the try is found to have failed.
 */
import type { Finish, Observed } from "../../durable-objects/pool-protocol.ts";
import { Copy } from "../results/copy.ts";
import type { Line } from "../dispatch.ts";
import { finishOf } from "./finish.ts";
import { completeUpload, beginUpload, type ResultUpload } from "../results/upload.ts";
import type { Lease } from "./lease.ts";
import { type Call, callOrigin, failure, type Failure, isFailure } from "../origin.ts";
import { pump } from "./pump.ts";
import { record } from "./record.ts";
import type { Answer, Running, Unkept } from "../run.ts";
import type { Detail } from "../details.ts";
import type { Reason } from "../refusal.ts";
import { type Head, isBare, isMedia, misfit, pieces, type Piece, type Whole } from "../results/pieces.ts";
import { type Answering, keep, type Keeping, type Kept, NOTHING_KEPT, plan } from "../store.ts";
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
      const { controller, readTimeout } = this.#watch;
      const reply = await callOrigin(ask, route, this.#call(), controller, readTimeout);
      if (isFailure(reply)) return await this.#failed(this.#watch.callersFault() ?? reply);
      const taken = await take(reply, ask, readTimeout);
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
      const problem = misfit(ask, taken, taken.first[0]);
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
    const { trace, fingerprint, clientAddress, base } = this.#running;
    return {
      requestId: trace.id,
      number: this.#lease.grant.number,
      clientAddress,
      base,
      cacheable: fingerprint.cacheable,
      readMs: this.#watch.readMs,
    };
  }

  async #failed(seen: Failure): Promise<Failure> {
    const failed = this.#watch.told(seen);
    await this.#release(failed);
    return failed;
  }

  /** Rejects a stream before the caller has received any of it. */
  async #refuse({ source, room }: TakenStream, problem: Detail): Promise<Failure> {
    room.free();
    await source.cancel();
    return this.#failed(failure("origin_invalid", "yes", false, problem));
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
    const { trace, fingerprint, ctx } = this.#running;
    const found = pieces(this.#running.ask, whole);
    if ("problem" in found) {
      room.free();
      return this.#failed(failure("origin_invalid", "yes", true, found.problem));
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
      const state = ok ? "succeeded" : "failed";
      const unkept = this.#storeFailed(found, kept);
      await record(this.#running, state, whole.status, results, ok ? "all" : "token", took, unkept);
      const cache = !fingerprint.cacheable ? "bypass" : kept.answer ? "stored" : "miss";
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
    const { env, ask } = this.#running;
    const keeping = this.#keeping(whole, found);
    const nothing = found.length === 0 && !(keeping.answer !== null && whole.status === 200);
    if (ask.directives.noStore || nothing || whole.status >= 300) return NOTHING_KEPT;
    return this.#forOthers(await keep(env, keeping, plan(keeping, whole, found), whole, found), whole, found);
  }

  /** To identical requests, an answer that is stored for its own caller alone counts as not stored. */
  #forOthers(kept: Kept, head: Head, found: Piece[] | null): Kept {
    return { ...kept, answer: kept.answer && this.#isCached(head, found) };
  }

  /** `found`: the images or sounds in the answer; null: the answer itself is one. */
  #keeping(head: Head, found: Piece[] | null): Keeping {
    const { ctx, ask, caller, trace, base } = this.#running;
    const later = (work: Promise<unknown>): void => ctx.waitUntil(work);
    return { ask, tenant: caller.tenant, requestId: trace.id, base, later, answer: this.#answering(head, found) };
  }

  /** Where the answer itself is stored; null: nowhere. */
  #answering(head: Head, found: Piece[] | null): Answering | null {
    const { ask, fingerprint, replace, keepAs } = this.#running;
    const ttlMs = ask.service.config.cache.ttl_s * 1000;
    const keepMs = keepAs === null ? ttlMs : ask.delivery.lifeMs;
    if (fingerprint.cacheable && this.#isCached(head, found))
      return { fingerprint: fingerprint.key, shared: fingerprint.scope === "shared", replace, ttlMs, keepMs };
    // A dialect refuses an answer without images, and a refusal is not replayed.
    const isRefused = ask.resultsAt !== undefined && found !== null && isBare(ask, head, found);
    if (keepAs === null || isRefused) return null;
    return { fingerprint: keepAs, shared: false, replace: false, ttlMs: keepMs, keepMs };
  }

  /** Whether identical requests may get the answer. */
  #isCached(head: Head, found: Piece[] | null): boolean {
    const { ask, fingerprint } = this.#running;
    const isForbidden = head.noStore === true && ask.service.config.kind === "http";
    return fingerprint.cacheable && !isForbidden && !(found !== null && isBare(ask, head, found));
  }

  /** Streams the answer. The slot is released when the origin's answer ends; the result is stored after that. */
  #stream(taken: TakenStream, firstByteMs: number): Answer {
    const { ctx, fingerprint } = this.#running;
    const { status, headers, source, first, room, length, unkept } = taken;
    this.#watch.metDeadline();
    const copy = this.#copyOf(taken);
    const flow = pump({ source, first, room, length, readTimeout: this.#watch.readTimeout, copy });
    const after = async (): Promise<void> => {
      const { complete, problem, total, handed } = await flow.ended;
      const totalMs = Date.now() - this.#sentAt;
      this.#watch.end();
      const failed = complete ? null : this.#watch.told(brokenBy(problem));
      await this.#release(failed);
      await this.#giveWay();
      const { kept, lost } = complete ? await this.#keepCopy(taken, copy) : { kept: NOTHING_KEPT, lost: null };
      const finish: Finish =
        failed !== null ? { kind: "failed", reason: failed.reason } : { kind: kept.answer ? "stored" : "alone" };
      await this.#line.finished(finish, complete ? { firstByteMs, totalMs } : null);
      const state = complete ? "succeeded" : failed?.reason === "client_gone" ? "canceled" : "failed";
      const results = kept.results.map((row) => row.id);
      const isMade = complete && status < 400;
      const reason = failed?.reason ?? (handed < total ? "client_gone" : null);
      // When a stream was not stored, the number of results in it is unknown.
      const took = { bytes: handed, results: isMade ? results.length || null : 0, reason };
      await record(this.#running, state, status, results, isMade ? "all" : "token", took, lost);
      await flow.drained;
    };
    ctx.waitUntil(after());
    const cache = fingerprint.cacheable ? "miss" : "bypass";
    return { status, headers, body: flow.readable, results: [], cache, unkept: this.#mayKeep(taken) ? unkept : null };
  }

  #copyOf(head: Head): Copy {
    const { env, ask, trace } = this.#running;
    const keeping = this.#keeping(head, null);
    const lay = (type: string): ResultUpload => beginUpload(env, keeping, head, type);
    const { later } = keeping;
    return new Copy({ ask, head, requestId: trace.id, lay: this.#mayKeep(head) ? lay : null, later });
  }

  /** Whether any part of this answer will be stored if it completes. */
  #mayKeep(head: Head): boolean {
    const { ask, fingerprint, keepAs } = this.#running;
    const isMaking = isMedia(head) || ask.service.config.kind === "image";
    return (isMaking || fingerprint.cacheable || keepAs !== null) && head.status < 300 && !ask.directives.noStore;
  }

  /**
   * Never throws: the caller has the answer, and the end of the run must be reported. `lost`: why something that should
   * have been stored was not.
   */
  async #keepCopy(taken: TakenStream, copy: Copy): Promise<{ kept: Kept; lost: Unkept | null }> {
    try {
      const copied = await copy.take();
      if (copied === null)
        return { kept: NOTHING_KEPT, lost: this.#mayKeep(taken) ? (taken.unkept ?? copy.unkept) : null };
      if (copied.kind === "laid") {
        const kept = await completeUpload(this.#running.env, this.#keeping(taken, null), taken, copied);
        return { kept: this.#forOthers(kept, taken, null), lost: kept.results.length === 0 ? "store_failed" : null };
      }
      const whole = { ...taken, bytes: copied.bytes };
      const found = pieces(this.#running.ask, whole);
      if ("problem" in found) return { kept: NOTHING_KEPT, lost: null };
      const kept = await this.#keep(whole, found);
      return { kept, lost: this.#storeFailed(found, kept) };
    } catch (error) {
      const { trace, ask } = this.#running;
      const of = { request: trace.id, service: ask.service.id };
      console.error(JSON.stringify({ event: "store_failed", ...of, error: String(error) }));
      return { kept: NOTHING_KEPT, lost: "store_failed" };
    } finally {
      copy.free();
    }
  }

  #storeFailed(found: Piece[], kept: Kept): Unkept | null {
    const wanted = this.#running.ask.directives.noStore ? 0 : found.length;
    return wanted > kept.results.length ? "store_failed" : null;
  }
}

function brokenBy(problem: Detail | null): Failure {
  return problem === null ? failure("origin_reset", "yes", false) : failure("origin_invalid", "yes", true, problem);
}
