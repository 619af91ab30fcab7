/**
 * One ask, run to its end: where dispatch, origin and store meet. Dialects and jobs call it; they differ in how they
 * make the ask and how they show the answer.
 *
 * Up to the first offer nothing outlives the caller: a caller that goes leaves the line by itself. From the offer on
 * the work is held by `waitUntil`, so that the slot is given back and the result kept whatever the caller does.
 */
import type { Entry, Priority } from "../durable-objects/pool-protocol.ts";
import type { Charge, RunState } from "../durable-objects/tenant-protocol.ts";
import { keyedAddress } from "./caller/address.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import { Line, newAttempt, type Offered, type Told } from "./dispatch.ts";
import type { Config, Env } from "./env.ts";
import type { Fingerprint } from "./fingerprint.ts";
import type { Grant } from "./run/lease.ts";
import { pay, tellSlots, type Unpaid } from "./limits.ts";
import { tamed } from "./run/headers.ts";
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
  print: Fingerprint;
  priority: Priority;
  /** Aborted when the caller hangs up. */
  gone: AbortSignal;
  /** Our public address, without a trailing slash. */
  base: string;
  clientAddress: string | null;
  /** An expired or unwanted stored answer is replaced. */
  replace: boolean;
  /** A key under which the answer is kept where no cache keeps it, so that it can be had again; null: it need not. */
  keepAs: string | null;
  /** Told each card that begins it. */
  started: ((grant: Grant) => void) | null;
  /** Hears what became of the run; the last word counts. */
  ended: ((end: RunEnd) => void) | null;
  /** Whose work it is when nobody holds the line for it; null: a caller's, who does. */
  job: JobRun | null;
}

/** What a job's run is to the job. */
export interface JobRun {
  /** Its place in line is that of its making. */
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
}

export interface Answer {
  status: number;
  headers: Headers;
  body: BodyInit | null;
  /** Ids of the results in it. */
  results: string[];
  cache: "stored" | "miss" | "collapsed" | "bypass";
  /** Why nothing of it can be kept, where that was known before its end. */
  unkept: "too_large" | "no_room" | null;
}

/** Who cannot pay because the same is under way, and waits for another card, stands in line anew so often, after a pause. */
const UNPAID_OFFERS_MAX = 120;
const UNPAID_PAUSE_MS = 250;

/** The answer, or the refusal that stands in its place. */
export async function run(running: Running): Promise<Answer | Refusal> {
  const { env, ctx, trace, ask, print } = running;
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
    // Somebody else ran the same.
    const shared = await sharedAnswer(running, offer);
    if (shared !== null) return shared;
    // It was stored, yet it is not there: we run it ourselves, in a line of our own.
    if (again++ > 0 || !print.cacheable) return end(running, "failed", refuse("origin_reset", { started: "unknown" }));
    line.again();
  }
}

/** A run of its own has its price; who cannot pay goes, and whoever asked for the same runs it without this one. */
async function payFor({ env, caller, trace, ask, print }: Running, line: Line): Promise<Unpaid | null> {
  try {
    const unpaid = await pay(env, caller, trace, ask, print.cacheable ? print.key : null);
    if (unpaid !== null) await line.finished({ kind: "failed", reason: "client_gone" }, null);
    return unpaid;
  } catch (error) {
    // As in tries.ts: nobody may wait for this run.
    await line.finished({ kind: "failed", reason: "internal" }, null);
    throw error;
  }
}

async function entryOf(running: Running, arrivedAt: number): Promise<Entry> {
  const { trace, caller, ask, print, priority, clientAddress, config, job } = running;
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
    fingerprint: print.cacheable ? print.key : null,
    ...(counted === null || perAddress === null ? {} : { address: counted, perAddress }),
    avoid: job?.avoid ?? [],
    again: false,
    job: job !== null,
    version: ask.service.version,
  };
}

/** The caller's own deadline for the first byte: past it 504, and the run goes on as if the caller were gone. */
async function beforeDeadline(tries: Tries, first: Offered, { ask, ctx }: Running): Promise<Answer | Refusal> {
  const leftMs = (ask.deadlineAt ?? 0) - Date.now();
  const facts = { read_s: Math.round(leftMs / 1000) };
  const work = tries.go(first);
  ctx.waitUntil(work);
  const inTime = await unlessLate(work, ask.deadlineAt);
  if (inTime !== null) return inTime;
  // In line, the Pool says so.
  return tries.onCard ? refuse("origin_timeout", { started: "yes", facts }) : work;
}

/** What came of the run of somebody who asked for the same; null: it has to be run again. */
async function sharedAnswer(running: Running, offer: Told): Promise<Answer | Refusal | null> {
  const { finish } = offer;
  if (finish.kind === "failed") {
    const reason = (finish.reason in REASONS ? finish.reason : "origin_reset") as Reason;
    return end(running, "failed", refuse(reason, { started: "unknown", facts: sharedFacts(running) }));
  }
  if (finish.kind === "answer") {
    const headers = tamed(new Headers(finish.contentType === null ? {} : { "content-type": finish.contentType }));
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

/** Of how another's run failed no more is told than the reason; what every run of the service has in common is known. */
function sharedFacts({ ask, trace }: Running): Refusal["facts"] {
  const waited_s = Math.round((trace.stages.queue ?? 0) / 1000);
  const { read_s } = ask.service.config.timeouts;
  return { read_s, waited_s, status: "5xx", detail: "the same request failed for another caller" };
}
