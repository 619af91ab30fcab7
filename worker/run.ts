/**
 * Runs one ask to its end, connecting dispatch, origin and store. Dialects and jobs call it; they differ in how they
 * build the ask and render the answer.
 *
 * Up to the first offer nothing outlives the caller: when the caller disconnects, its ticket is disposed. From the
 * offer on, `waitUntil` keeps the work alive, so that the slot is released and the result stored whatever the caller
 * does.
 */
import type { Entry, Priority } from "../durable-objects/pool-protocol.ts";
import type { Charge, RunState } from "../durable-objects/tenant-protocol.ts";
import { keyedAddress } from "./caller/address.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import { detail } from "./details.ts";
import { Line, newAttempt, type Offered, type Told } from "./dispatch.ts";
import type { Config, Env } from "./env.ts";
import type { Fingerprint } from "./fingerprint.ts";
import type { Grant } from "./run/lease.ts";
import { pay, tellSlots, type Unpaid } from "./limits.ts";
import { sandboxed } from "./run/headers.ts";
import { priceOf } from "./caller/price.ts";
import { provision } from "./services/provision.ts";
import { end, record, type Took } from "./run/record.ts";
import { findStored } from "./results/recall.ts";
import { type Reason, REASONS, type Refusal, refuse } from "./refusal.ts";
import { limitsIn } from "./caller/tenant-limits.ts";
import type { Trace } from "./trace.ts";
import { Tries } from "./run/tries.ts";
import { unlessGone, unlessLate } from "./run/until.ts";

export interface Running {
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  config: Config;
  trace: Trace;
  caller: Caller;
  ask: Ask;
  fingerprint: Fingerprint;
  priority: Priority;
  /** Aborted when the caller hangs up. */
  gone: AbortSignal;
  /** Our public address, without a trailing slash. */
  base: string;
  clientAddress: string | null;
  /** Overwrite a stored answer, because it has expired or the caller asked for a new run. */
  replace: boolean;
  /** Key for storing an answer that the cache does not store, so that a retry can get it. Null: not needed. */
  keepAs: string | null;
  /** Called for each card that begins the run. */
  started: ((grant: Grant) => void) | null;
  /** Called when that card has failed and the request is back in line for another card. */
  requeued?: (refusal: Refusal) => void;
  /** Called with the outcome of the run. If it is called more than once, the last call counts. */
  ended: ((end: RunEnd) => void) | null;
  /** Set when the run belongs to a job; null when a caller waits for it. */
  job: JobRun | null;
}

/** What a run needs to know about its job. */
export interface JobRun {
  /** When the job was submitted: determines its place in line. */
  arrivedAt: number;
  /** Cards that have failed it before. */
  avoid: string[];
}

export interface RunEnd {
  state: RunState;
  status: number | null;
  results: string[];
  charge: Charge;
  took: Took;
  /** Why an answer that should have been stored was not; null otherwise. */
  unkept: Unkept | null;
}

/** `too_large` is permanent; another run may succeed after the others. */
export type Unkept = "too_large" | "no_room" | "store_failed";

export interface Answer {
  status: number;
  headers: Headers;
  body: BodyInit | null;
  /** Ids of the results in the answer. */
  results: string[];
  cache: "stored" | "miss" | "collapsed" | "bypass";
  /** Why the answer could not be stored, where that was known before its end. */
  unkept: Exclude<Unkept, "store_failed"> | null;
}

/**
 * A request that cannot pay because an identical one is under way, waiting for another card, re-enters the line. It
 * does so at most this often, after a pause each time.
 */
const UNPAID_OFFERS_MAX = 120;
const UNPAID_PAUSE_MS = 250;

/** Returns the answer or a refusal. */
export async function run(running: Running): Promise<Answer | Refusal> {
  const { env, ctx, trace, ask, fingerprint } = running;
  const queuedAt = Date.now();
  const entry = await entryOf(running, running.job?.arrivedAt ?? queuedAt);
  const enter = (): Line =>
    new Line(
      env,
      ask.service.id,
      { ...entry, attempt: newAttempt() },
      {
        provision: () => provision(env, ask.service.id),
        later: (work) => ctx.waitUntil(work),
      },
    );
  let line = enter();
  let unpaidOffers = 0;
  for (let again = 0; ;) {
    const offer = await unlessGone(line.offer(), running.gone);
    if (offer === null) {
      await line.leave();
      return end(running, "canceled", refuse("client_gone"));
    }
    trace.stages.queue = Date.now() - queuedAt;
    if (offer.kind === "refused") return end(running, "failed", offer.refusal);
    if (offer.kind === "offer") {
      const unpaid = await payFor(running, line);
      if (unpaid === null) {
        tellSlots(trace, offer.slotsLeft);
        return await beforeDeadline(new Tries(running, line, (told) => sharedAnswer(running, told)), offer, running);
      }
      if (!unpaid.follows || ++unpaidOffers >= UNPAID_OFFERS_MAX) return end(running, "failed", unpaid.refusal);
      await unlessGone(scheduler.wait(UNPAID_PAUSE_MS), running.gone);
      line = enter();
      continue;
    }
    // An identical request ran for somebody else.
    const shared = await sharedAnswer(running, offer);
    if (shared !== null) return shared;
    // Its answer was stored but cannot be found, so this request runs by itself.
    if (again++ > 0 || !fingerprint.cacheable)
      return end(running, "failed", refuse("origin_reset", { started: "unknown" }));
    line.again();
  }
}

/** Charges a run of its own. A request that cannot pay leaves the line, and its followers run without it. */
async function payFor({ env, caller, trace, ask, fingerprint }: Running, line: Line): Promise<Unpaid | null> {
  try {
    const unpaid = await pay(env, caller, trace, ask, fingerprint.cacheable ? fingerprint.key : null);
    if (unpaid !== null) await line.finished({ kind: "failed", reason: "client_gone" }, null);
    return unpaid;
  } catch (error) {
    // As in tries.ts: followers must not wait for this run.
    await line.finished({ kind: "failed", reason: "internal" }, null);
    throw error;
  }
}

async function entryOf(running: Running, arrivedAt: number): Promise<Entry> {
  const { trace, caller, ask, fingerprint, priority, clientAddress, config, job } = running;
  const { concurrent, waiting, per_address: perAddress } = limitsIn(caller.limits, ask.service.id);
  const counted =
    clientAddress === null || perAddress === null ? null : await keyedAddress(config.keySecret, clientAddress);
  return {
    attempt: newAttempt(),
    request: trace.id,
    tenant: caller.tenant,
    weight: caller.weight,
    concurrent,
    waiting,
    priority,
    arrivedAt,
    deadlineAt: ask.deadlineAt,
    fingerprint: fingerprint.cacheable ? fingerprint.key : null,
    ...(counted === null || perAddress === null ? {} : { address: counted, perAddress }),
    avoid: job?.avoid ?? [],
    again: false,
    job: job !== null,
    version: ask.service.version,
  };
}

/** Enforces the caller's own deadline for the first byte: after it, 504, and the run goes on without the caller. */
async function beforeDeadline(tries: Tries, first: Offered, { ask, ctx }: Running): Promise<Answer | Refusal> {
  const leftMs = (ask.deadlineAt ?? 0) - Date.now();
  const facts = { read_s: Math.round(leftMs / 1000) };
  const work = tries.go(first);
  ctx.waitUntil(work);
  const inTime = await unlessLate(work, ask.deadlineAt);
  if (inTime !== null) return inTime;
  // While the request is still in line, the Pool enforces the deadline.
  return tries.onCard ? refuse("origin_timeout", { started: "yes", facts }) : work;
}

/** Returns the outcome of an identical request's run, or null when this request has to run itself. */
async function sharedAnswer(running: Running, offer: Told): Promise<Answer | Refusal | null> {
  const { finish } = offer;
  if (finish.kind === "failed") {
    const reason = (finish.reason in REASONS ? finish.reason : "origin_reset") as Reason;
    return end(running, "failed", refuse(reason, { started: "unknown", facts: sharedFacts(running) }));
  }
  if (finish.kind === "answer") {
    const headers = sandboxed(new Headers(finish.contentType === null ? {} : { "content-type": finish.contentType }));
    const bytes = new TextEncoder().encode(finish.body).byteLength;
    await record(running, "failed", finish.status, [], "token", { bytes });
    return { status: finish.status, headers, body: finish.body, results: [], cache: "collapsed", unkept: null };
  }
  const stored = await findStored(running);
  if (stored === null || stored === "expired") return null;
  const { hits } = priceOf(running.ask.service.config);
  const took = { bytes: stored.bytes };
  await record(running, "succeeded", stored.status, stored.results, hits ? "price" : "token", took);
  return {
    status: stored.status,
    headers: stored.headers,
    body: stored.body,
    results: stored.results,
    cache: "collapsed",
    unkept: null,
  };
}

/** Facts about another caller's failed run: only the reason and what all runs of the service have in common. */
function sharedFacts({ ask, trace }: Running): Refusal["facts"] {
  const waited_s = Math.round((trace.stages.queue ?? 0) / 1000);
  const { read_s } = ask.service.config.timeouts;
  return { read_s, waited_s, status: "5xx", ...detail("failed_elsewhere") };
}
