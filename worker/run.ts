/**
 * One ask, run to its end: where dispatch, origin and store meet. Dialects and jobs call it; they differ in how they
 * make the ask and how they show the answer.
 *
 * Up to the first offer nothing outlives the caller: a caller that goes leaves the line by itself. From the offer on
 * the work is held by `waitUntil`, so that the slot is given back and the result kept whatever the caller does.
 */
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import { Room } from "./buffers.ts";
import { concat } from "./body.ts";
import { answerKey, keepNear, lookUp, type Stored } from "./cache.ts";
import { Lease, Line, newAttempt, type Offer } from "./dispatch.ts";
import { type Config, type Env } from "./env.ts";
import type { Fingerprint } from "./fingerprint.ts";
import { asRefusal, type Call, callOrigin, failure, type Failure, handedOn, isFailure, Silence } from "./origin.ts";
import { pump } from "./pump.ts";
import { type Reason, REASONS, type Refusal, isRefusal, refuse } from "./refusal.ts";
import { keep, type Kept, pieces, type Piece, type Whole } from "./store.ts";
import type { Trace } from "./trace.ts";
import { provision } from "./provision.ts";
import type { Finish, Observed, Priority } from "../durable-objects/protocol.ts";

/** How long a run goes on for a caller who is gone: the platform ends everything 30 s after him. */
const ABANDONED_MS = 25_000;
/** Answers up to this are read whole before they are handed on: failover until the last byte, checked, stored. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;
/** An origin's own error up to this is handed to those who asked for the same. */
const SHARED_BYTES_MAX = 64 * 1024;

export interface Running {
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  config: Config;
  trace: Trace;
  caller: Caller;
  ask: Ask;
  print: Fingerprint;
  priority: Priority;
  /** Aborted when the caller hangs up. */
  gone: AbortSignal;
  /** Our public address, without a trailing slash. */
  base: string;
  clientAddress: string | null;
  /** An expired or unwanted stored answer is replaced. */
  replace: boolean;
}

export interface Answer {
  status: number;
  headers: Headers;
  body: BodyInit | null;
  /** Ids of the results in it. */
  results: string[];
  cache: "stored" | "miss" | "collapsed" | "bypass";
}

/** The answer, or the refusal that stands in its place. */
export async function run(running: Running): Promise<Answer | Refusal> {
  const { env, trace, caller, ask, print } = running;
  const queuedAt = Date.now();
  const line = new Line(env, ask.service.id, entryOf(running, queuedAt), () => provision(env, ask.service.id));
  for (let again = 0; ; again++) {
    const offer = await unlessGone(line.offer(), running.gone);
    if (offer === null) {
      await line.leave();
      return end(running, "canceled", refuse("client_gone"));
    }
    trace.stages.queue = Date.now() - queuedAt;
    if (offer.kind === "refused") return end(running, "failed", offer.refusal);
    if (offer.kind === "offer") {
      const work = new Run(running, line).go(offer.card);
      running.ctx.waitUntil(work);
      return await beforeDeadline(work, running);
    }
    // Somebody else ran the same.
    const shared = await sharedAnswer(running, offer);
    if (shared !== null) return shared;
    // It was stored, yet it is not there: we run it ourselves, in a line of our own.
    if (again > 0 || !print.cacheable) return end(running, "failed", refuse("origin_reset", { started: "unknown" }));
    line.again();
  }
}

function entryOf({ trace, caller, ask, print, priority }: Running, arrivedAt: number) {
  return {
    attempt: newAttempt(),
    request: trace.id,
    tenant: caller.tenant,
    weight: caller.weight,
    concurrent: caller.limits.concurrent,
    waiting: caller.limits.waiting,
    priority,
    arrivedAt,
    deadlineAt: ask.deadlineAt,
    fingerprint: print.cacheable ? print.key : null,
    avoid: [],
    again: false,
    version: ask.service.version,
  };
}

/** Null when the caller goes first. */
async function unlessGone<T>(wait: Promise<T>, gone: AbortSignal): Promise<T | null> {
  if (gone.aborted) return null;
  let onGone = (): void => undefined;
  const left = new Promise<null>((resolve) => {
    onGone = () => resolve(null);
    gone.addEventListener("abort", onGone, { once: true });
  });
  try {
    return await Promise.race([wait, left]);
  } finally {
    gone.removeEventListener("abort", onGone);
  }
}

/** The caller's own deadline for the first byte: past it 504, and the run goes on as if the caller were gone. */
async function beforeDeadline(work: Promise<Answer | Refusal>, { ask }: Running): Promise<Answer | Refusal> {
  if (ask.deadlineAt === null) return work;
  let timer: number | null = null;
  const late = new Promise<Refusal>((resolve) => {
    const read_s = Math.round(((ask.deadlineAt ?? 0) - Date.now()) / 1000);
    const timeUp = () => resolve(refuse("origin_timeout", { started: "yes", facts: { read_s } }));
    timer = setTimeout(timeUp, Math.max(0, (ask.deadlineAt ?? 0) - Date.now()));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What came of the run of somebody who asked for the same; null: it has to be run again. */
async function sharedAnswer(running: Running, offer: Extract<Offer, { kind: "told" }>): Promise<Answer | Refusal | null> {
  const { finish } = offer;
  if (finish.kind === "failed") {
    const reason = (finish.reason in REASONS ? finish.reason : "origin_reset") as Reason;
    return end(running, "failed", refuse(reason, { started: "unknown", facts: { status: "", detail: "" } }));
  }
  if (finish.kind === "answer") {
    const headers = new Headers(finish.contentType === null ? {} : { "content-type": finish.contentType });
    record(running, "failed", finish.status, []);
    return { status: finish.status, headers, body: finish.body, results: [], cache: "collapsed" };
  }
  const stored = await findStored(running);
  if (stored === null || stored === "expired") return null;
  record(running, "succeeded", stored.status, stored.results);
  return { status: stored.status, headers: stored.headers, body: stored.body, results: stored.results, cache: "collapsed" };
}

/**
 * The stored answer of this ask: the tenant's own, else (for a shared cache) the shared one, which becomes the
 * tenant's own on first use, with results of its own.
 */
export async function findStored(running: Pick<Running, "env" | "ask" | "print" | "caller" | "trace" | "base" | "ctx">): Promise<Stored | "expired" | null> {
  const { env, ask, print, caller, trace, base, ctx } = running;
  if (!print.cacheable) return null;
  const now = Date.now();
  const own = await lookUp(env, base, answerKey(caller.tenant, print.key), now);
  if ((own !== null && own !== "expired") || print.scope !== "shared") return own;
  const shared = await lookUp(env, base, answerKey("shared", print.key), now);
  if (shared === null || shared === "expired" || shared.body === null) return shared ?? own;
  const bytes = new Uint8Array(await new Response(shared.body).arrayBuffer());
  const whole: Whole = { status: shared.status, headers: shared.headers, bytes, endKnown: true };
  const found = pieces(ask, whole);
  const later = (work: Promise<unknown>) => ctx.waitUntil(work);
  const keeping = { ask, tenant: caller.tenant, requestId: trace.id, later, answer: { fingerprint: print.key, shared: false, replace: own === "expired" } };
  const kept = await keep(env, keeping, whole, "problem" in found ? [] : found, now);
  return { ...shared, body: bytes.buffer, results: kept.results.map((row) => row.id) };
}

/** The last word on a request that took a ticket: its record, and the refusal for its caller. */
function end(running: Running, state: "failed" | "canceled", refusal: Refusal): Refusal {
  if (running.ask.body.kind === "bytes") running.ask.body.room.free();
  record(running, state, REASONS[refusal.reason].status, []);
  return refusal;
}

function record({ env, ctx, caller, trace }: Running, state: "running" | "succeeded" | "failed" | "canceled", status: number | null, results: string[]): void {
  const kept = env.TENANT.getByName(caller.tenant).record(trace.id, state, status, results);
  ctx.waitUntil(kept.catch((error: unknown) => console.warn(JSON.stringify({ event: "record_lost", request: trace.id, error: String(error) }))));
}

/** From the first offer to the end: tries, failover, the answer. */
class Run {
  readonly #running: Running;
  readonly #line: Line;
  readonly #tried: string[] = [];

  constructor(running: Running, line: Line) {
    this.#running = running;
    this.#line = line;
  }

  async go(firstCard: string): Promise<Answer | Refusal> {
    try {
      return await this.#tries(firstCard);
    } catch (error) {
      // A fault of ours: nobody may wait for this run.
      await this.#line.finished({ kind: "failed", reason: "internal" }, null);
      throw error;
    } finally {
      const { body } = this.#running.ask;
      if (body.kind === "bytes") body.room.free();
    }
  }

  async #tries(firstCard: string): Promise<Answer | Refusal> {
    const { ask, gone, trace } = this.#running;
    const { tries, timeout_s } = ask.service.config.retry;
    let offer: Offer = { kind: "offer", card: firstCard };
    let firstTryAt: number | null = null;
    let last: Failure | null = null;
    for (let tried = 0; ; ) {
      if (offer.kind === "refused") return this.#lose(last === null ? offer.refusal : asRefusal(last));
      if (offer.kind === "told") return this.#lose(refuse("origin_reset", { started: "unknown" }));
      const claimedFrom = Date.now();
      const lease = await this.#line.claim(offer.card, this.#attempt());
      trace.stages.queue = (trace.stages.queue ?? 0) + (Date.now() - claimedFrom);
      if (lease !== null) {
        firstTryAt ??= Date.now();
        tried++;
        const outcome = await this.#onCard(lease);
        if (!isFailure(outcome)) return outcome;
        trace.fields["tries"] = tried;
        last = outcome;
        this.#tried.push(lease.grant.card);
        const late = Date.now() - firstTryAt > timeout_s * 1000 || Date.now() >= (ask.deadlineAt ?? Number.POSITIVE_INFINITY);
        if (tried >= tries || late || gone.aborted || ask.body.kind === "stream") return this.#lose(asRefusal(outcome));
        await this.#line.retry(this.#tried);
      }
      const again: Offer | null = await unlessGone(this.#offerBefore(firstTryAt === null ? null : firstTryAt + timeout_s * 1000), gone);
      if (again === null) {
        await this.#line.leave();
        return this.#lose(last === null ? refuse("client_gone") : asRefusal(last));
      }
      offer = again;
    }
  }

  /** The next offer; no new try starts after `until`. */
  async #offerBefore(until: number | null): Promise<Offer | null> {
    if (until === null) return this.#line.offer();
    let timer: number | null = null;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), Math.max(0, until - Date.now()));
    });
    try {
      return await Promise.race([this.#line.offer(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #attempt() {
    const { trace, caller, ask, print } = this.#running;
    return { request: trace.id, tenant: caller.tenant, service: ask.service.id, fingerprint: print.cacheable ? print.key : null };
  }

  async #lose(refusal: Refusal): Promise<Refusal> {
    await this.#line.finished({ kind: "failed", reason: refusal.reason }, null);
    return end(this.#running, refusal.reason === "client_gone" ? "canceled" : "failed", refusal);
  }

  /** One try at one card, under a lease: always released here, or at the stream's end. */
  async #onCard(lease: Lease): Promise<Answer | Failure> {
    const { ask, gone, trace, print, clientAddress, base } = this.#running;
    if (gone.aborted) {
      await lease.release({ clean: true, health: null, reason: null });
      return failure("client_gone", "no", true);
    }
    trace.headers.set("x-portico-card", lease.grant.card);
    trace.fields["card"] = lease.grant.card;
    trace.fields["lease"] = lease.grant.number;
    record(this.#running, "running", null, []);
    const controller = new AbortController();
    lease.lost = () => controller.abort(new Error("the lease is lost"));
    const leaving = this.#leaving(controller);
    const readMs = ask.service.config.timeouts.read_s * 1000;
    const silence = new Silence(readMs, controller);
    const { host, protocol } = new URL(base);
    const call: Call = {
      requestId: trace.id,
      number: lease.grant.number,
      clientAddress,
      publicHost: host,
      publicProtocol: protocol.slice(0, -1),
      cacheable: print.cacheable,
      readMs,
    };
    const route = { ...lease.grant, access: this.#running.config.access };
    const sentAt = Date.now();
    let streaming = false;
    try {
      const reply = await callOrigin(ask, route, call, controller, silence);
      if (isFailure(reply)) return await this.#failed(lease, this.#overrun(reply), leaving.cancelled);
      const taken = await this.#take(reply.response, silence);
      if (isFailure(taken)) return await this.#failed(lease, silence.lapsed ? timedOut(readMs) : taken, leaving.cancelled);
      const observed = { firstByteMs: reply.firstByteMs, totalMs: Date.now() - sentAt };
      trace.stages.origin = (trace.stages.origin ?? 0) + (Date.now() - sentAt);
      if (taken.kind === "whole") return await this.#whole(lease, taken.whole, taken.room, observed);
      streaming = true;
      return this.#stream(lease, reply.response, taken, silence, sentAt, leaving);
    } catch (error) {
      // A fault of ours must not cost the card more than its draining.
      controller.abort(error);
      await lease.release({ clean: false, health: null, reason: "internal" });
      throw error;
    } finally {
      if (!streaming) {
        silence.stop();
        leaving.stop();
      }
    }
  }

  /** What happens to the run when its caller goes, or the caller's deadline lapses. */
  #leaving(controller: AbortController): { cancelled: boolean; stop: () => void } {
    const { ask, gone } = this.#running;
    const state = { cancelled: false, stop: (): void => undefined };
    const timers: number[] = [];
    const leave = (): void => {
      if (ask.service.config.abandon === "cancel") {
        state.cancelled = true;
        controller.abort(new Error("the caller is gone"));
      } else timers.push(setTimeout(() => controller.abort(new Error("abandoned")), ABANDONED_MS));
    };
    gone.addEventListener("abort", leave, { once: true });
    if (ask.deadlineAt !== null) timers.push(setTimeout(leave, Math.max(0, ask.deadlineAt - Date.now())));
    state.stop = () => {
      gone.removeEventListener("abort", leave);
      for (const timer of timers) clearTimeout(timer);
    };
    return state;
  }

  /** A body that turned out too long is the caller's fault, not the card's. */
  #overrun(failed: Failure): Failure {
    const { body } = this.#running.ask;
    const refusal = body.kind === "stream" ? body.overrun.refusal : null;
    return refusal === null ? failed : failure(refusal.reason, "no", true, refusal.facts);
  }

  async #failed(lease: Lease, failed: Failure, cancelled: boolean): Promise<Failure> {
    const ours = failed.reason === "client_gone" || failed.reason === "body_too_large";
    await lease.release({ clean: failed.clean || cancelled, health: ours ? null : "failed", reason: failed.reason });
    return failed;
  }

  /**
   * Reads an answer whole when it can be: with a length or of a kind that is made at once, up to a limit. What is
   * longer, or streamed sound and events, goes on as a stream.
   */
  async #take(
    response: Response,
    silence: Silence,
  ): Promise<{ kind: "whole"; whole: Whole; room: Room } | { kind: "stream"; reader: ReadableStreamDefaultReader<Uint8Array> | null; first: Uint8Array[] } | Failure> {
    const { ask } = this.#running;
    const headers = handedOn(response, ask);
    const declared = response.headers.get("content-encoding") === null ? response.headers.get("content-length") : null;
    const length = declared === null ? null : Number(declared);
    const type = headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
    const endKnown = length !== null || /\bchunked\b/i.test(response.headers.get("transfer-encoding") ?? "");
    const status = response.status;
    const room = new Room();
    if (response.body === null) return { kind: "whole", whole: { status, headers, bytes: new Uint8Array(0), endKnown: true }, room };
    const reader = response.body.getReader();
    const atOnce = type !== "text/event-stream" && (length !== null || /json$|^image\//.test(type) || status >= 400);
    const first: Uint8Array[] = [];
    if (!atOnce || (length ?? 0) > BUFFERED_BYTES_MAX) return { kind: "stream", reader, first };
    let bytes = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        silence.heard();
        bytes += value.byteLength;
        first.push(value);
        // Bytes, their text, and the images decoded.
        if (bytes > BUFFERED_BYTES_MAX || !(room.grow(3 * bytes) || (await room.growSoon(3 * bytes)))) {
          room.free();
          return { kind: "stream", reader, first };
        }
      }
    } catch {
      room.free();
      return failure("origin_reset", "yes", false);
    }
    return { kind: "whole", whole: { status, headers, bytes: concat(first, bytes), endKnown }, room };
  }

  /** A complete answer: checked, its slot given back, kept, answered. */
  async #whole(lease: Lease, whole: Whole, room: Room, observed: Observed): Promise<Answer | Failure> {
    const { ask, trace, print } = this.#running;
    try {
      const found = pieces(ask, whole);
      if ("problem" in found) {
        return await this.#failed(lease, failure("origin_invalid", "yes", true, { detail: found.problem }), false);
      }
      this.#running.ctx.waitUntil(lease.release({ clean: true, health: "ok", reason: null }));
      const storedFrom = Date.now();
      const kept = await this.#keep(whole, found);
      trace.stages.store = Date.now() - storedFrom;
      const results = kept.results.map((row) => row.id);
      this.#running.ctx.waitUntil(this.#line.finished(this.#finish(whole, kept), whole.status < 300 ? observed : null));
      record(this.#running, whole.status < 400 ? "succeeded" : "failed", whole.status, results);
      const cache = !print.cacheable ? "bypass" : kept.answer === null ? "miss" : "stored";
      return { status: whole.status, headers: whole.headers, body: whole.bytes, results, cache };
    } finally {
      room.free();
    }
  }

  async #keep(whole: Whole, found: Piece[]): Promise<Kept> {
    const { env, ctx, ask, caller, trace, print, base } = this.#running;
    const nothing = found.length === 0 && !(print.cacheable && whole.status === 200);
    if (ask.directives.noStore || nothing || whole.status >= 300) return { results: [], answer: null };
    const answer = print.cacheable ? { fingerprint: print.key, shared: print.scope === "shared", replace: this.#running.replace } : null;
    const now = Date.now();
    const kept = await keep(env, { ask, tenant: caller.tenant, requestId: trace.id, later: (work) => ctx.waitUntil(work), answer }, whole, found, now);
    if (kept.answer !== null) {
      const near = keepNear(base, kept.answer.key, whole.bytes, kept.answer.meta, now);
      ctx.waitUntil(near.catch((error: unknown) => console.warn(JSON.stringify({ event: "edge_put_failed", error: String(error) }))));
    }
    return kept;
  }

  #finish(whole: Whole, kept: Kept): Finish {
    if (kept.answer !== null) return { kind: "stored" };
    if (whole.status >= 400 && whole.bytes.byteLength <= SHARED_BYTES_MAX) {
      const contentType = whole.headers.get("content-type");
      return { kind: "answer", status: whole.status, contentType, body: new TextDecoder().decode(whole.bytes) };
    }
    return { kind: "alone" };
  }

  /** Handed on as it comes; the slot is free at the origin's end, the result is kept after it. */
  #stream(
    lease: Lease,
    response: Response,
    taken: { reader: ReadableStreamDefaultReader<Uint8Array> | null; first: Uint8Array[] },
    silence: Silence,
    sentAt: number,
    leaving: { cancelled: boolean; stop: () => void },
  ): Answer {
    const { ask, ctx, print } = this.#running;
    const headers = handedOn(response, ask);
    const declared = response.headers.get("content-encoding") === null ? response.headers.get("content-length") : null;
    const length = declared === null ? null : Number(declared);
    const endKnown = length !== null || /\bchunked\b/i.test(response.headers.get("transfer-encoding") ?? "");
    const firstByteMs = Date.now() - sentAt;
    const flow = pump(taken.reader as ReadableStreamDefaultReader<Uint8Array>, taken.first, length, silence);
    const after = async (): Promise<void> => {
      const ended = await flow.ended;
      leaving.stop();
      await lease.release({
        clean: ended.complete || leaving.cancelled,
        health: ended.complete ? "ok" : silence.lapsed || !this.#running.gone.aborted ? "failed" : null,
        reason: ended.complete ? null : silence.lapsed ? "origin_timeout" : "origin_reset",
      });
      const whole = ended.bytes === null ? null : { status: response.status, headers, bytes: ended.bytes, endKnown };
      const found = whole === null ? [] : pieces(ask, whole);
      const kept = whole === null || "problem" in found ? { results: [], answer: null } : await this.#keep(whole, found);
      const finish: Finish = !ended.complete ? { kind: "failed", reason: "origin_reset" } : kept.answer === null ? { kind: "alone" } : { kind: "stored" };
      await this.#line.finished(finish, ended.complete ? { firstByteMs, totalMs: Date.now() - sentAt } : null);
      record(this.#running, ended.complete ? "succeeded" : "failed", response.status, kept.results.map((row) => row.id));
      await flow.drained;
    };
    ctx.waitUntil(after());
    return { status: response.status, headers, body: flow.readable, results: [], cache: print.cacheable ? "miss" : "bypass" };
  }
}

function timedOut(readMs: number): Failure {
  return failure("origin_timeout", "yes", false, { read_s: readMs / 1000 });
}
