/**
 * One attempt of a job. It goes through the same stages as a caller's request; the Job object hands out the attempt and
 * receives its outcome.
 */
import type {
  Begun,
  Bill,
  JobAnswer,
  JobError,
  JobResult,
  JobSpec,
  Outcome,
} from "../../durable-objects/job-protocol.ts";
import { type Ask, parseAsk } from "../ask.ts";
import type { Caller } from "../auth.ts";
import { BUFFERED_BYTES_MAX, letGo, noRoom } from "../body/body.ts";
import { isJson } from "../body/fields.ts";
import { mediaTypeOf } from "../results/media.ts";
import { lookUp, type Stored } from "../cache.ts";
import { answerKey } from "../results/stored-answer.ts";
import { catalog, listed } from "../services/catalog.ts";
import { config, type Env, unsureHost } from "../env.ts";
import { type Fingerprint, fingerprintOf, isExact, sha256 } from "../fingerprint.ts";
import type { Grant } from "../run/lease.ts";
import { findStored } from "../results/recall.ts";
import { answerTooLarge, type Refusal, isRefusal, isRetryable, refuse } from "../refusal.ts";
import { type Answer, run as runAsk, type RunEnd, type Running, type Unkept } from "../run.ts";
import { imagesDueAt, NO_IMAGES } from "../results/pieces.ts";
import { ANSWER_BUFFERED_BYTES_MAX } from "../run/take.ts";
import { repeated } from "../results/repeated.ts";
import { Spooled } from "../body/spool.ts";
import { type Result, resultsOf } from "../results/result.ts";
import { quietTrace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { retryAfterIn } from "../api/time.ts";
import { priceOf } from "../caller/price.ts";
import { limitsIn } from "../caller/tenant-limits.ts";
import { callerOf } from "./caller-of.ts";
import { Follow } from "./follow.ts";
import { withoutImages } from "./output.ts";

/** Retries after the first attempt. */
const RETRIES_MAX = 3;
/** Delay before the first retry. Doubles with each retry, with random jitter of up to half. */
const RETRY_MS = 10_000;
const RETRY_JITTER = 0.5;
/** Longest delay after an internal fault. */
const FAULT_PAUSE_MS_MAX = 600_000;
/** An origin's own errors that are retried: Request Timeout, Too Early, Too Many Requests (RFC 9110, 8470, 6585). */
const PASSING = new Set([408, 425, 429]);
/** Longest pause that an origin's own `Retry-After` can cause. */
const ORIGIN_PAUSE_MS_MAX = 600_000;
/** Largest body of an origin's error that is kept with the job, in bytes; a larger one is dropped. */
const OWN_ERROR_BYTES_MAX = 64 * 1024;

type Begin = Extract<Begun, { over: false }>;
type Context = Pick<ExecutionContext, "waitUntil">;

/** The result of an attempt. `end` is null when the answer was already stored; `hits`: such an answer has a price. */
type AttemptResult =
  | { kind: "answer"; answer: Answer | Stored; end: RunEnd }
  | { kind: "answer"; answer: Stored; end: null; hits: boolean }
  | { kind: "refused"; refusal: Refusal };

/** `start`: the Backlog's number of this Workflow instance. */
export async function runOnce(env: Env, ctx: Context, job: string, start: number): Promise<void> {
  const begun = await withTimeout(env.JOB.getByName(job).begin(start));
  if (begun.over) return;
  const { run, spec } = begun;
  const trace = quietTrace(spec.id, Date.now());
  const follow = new Follow(env, spec, run, trace);
  try {
    const from = Date.now();
    const outcome = await triedOutcome(env, ctx, begun, follow);
    // Canceled, or superseded by a later run: the outcome is discarded.
    if (follow.stopped) return;
    await repeated(() => withTimeout(env.JOB.getByName(job).finish(run, outcome)));
    log(spec, run, outcome, Date.now() - from);
  } finally {
    follow.end();
  }
}

/**
 * Never throws. An internal fault before any card began, such as D1 being down, does not fail the job: it is retried
 * with exponential backoff until the Job's limit of runs is reached. After a card began, it counts as a failed attempt.
 */
async function triedOutcome(env: Env, ctx: Context, begun: Begin, follow: Follow): Promise<Outcome> {
  try {
    const result = await runAttempt(env, ctx, begun, follow);
    return await outcomeOf(env, begun, result, follow.trace.gpuMs);
  } catch (error) {
    console.error(
      JSON.stringify({ event: "job_run_failed", job: begun.spec.id, run: begun.run, error: String(error) }),
    );
    const pauseMs = Math.min(FAULT_PAUSE_MS_MAX, RETRY_MS * 2 ** (begun.run - 1));
    const refusal = refuse("internal", { started: "unknown" });
    const { gpuMs } = follow.trace;
    if (follow.isBegun) return refusedOutcome(begun, { kind: "refused", refusal }, gpuMs);
    return { kind: "again", error: errorOf(refusal), retryAt: Date.now() + pauseMs, gpuMs };
  }
}

async function runAttempt(env: Env, ctx: Context, begun: Begin, follow: Follow): Promise<AttemptResult> {
  const { spec } = begun;
  const caller = await withTimeout(callerOf(env, spec));
  if (isRefusal(caller)) return { kind: "refused", refusal: caller };
  const ask = await askOf(env, ctx, spec);
  if (isRefusal(ask)) return { kind: "refused", refusal: ask };
  try {
    const late = spec.startDeadlineAt !== null && begun.startedAt === null;
    if (late && Date.now() >= (spec.startDeadlineAt ?? 0)) return { kind: "refused", refusal: lateStart(spec) };
    const fingerprint = await fingerprintOf(ask, caller.tenant, unsureHost(env, spec.base));
    const running = await runningOf(env, ctx, begun, caller, ask, fingerprint, follow);
    const found = await findStoredAnswer(running);
    if (found !== null) return { kind: "answer", answer: found, end: null, hits: priceOf(ask.service.config).hits };
    if (ask.directives.onlyIfCached) return { kind: "refused", refusal: refuse("not_cached") };
    if (late) follow.startBy(spec.startDeadlineAt ?? 0);
    return await runOnCard(running, follow, spec);
  } finally {
    letGo(ask.body);
  }
}

async function runOnCard(running: Running, follow: Follow, spec: JobSpec): Promise<AttemptResult> {
  const answer = await runAsk(running);
  if (follow.tooLate) return { kind: "refused", refusal: lateStart(spec) };
  if (follow.unserved) return { kind: "refused", refusal: refuse("not_found") };
  if (isRefusal(answer)) return { kind: "refused", refusal: answer };
  // A stream is read to its end here, because the run ends with it: the run's final report says what was kept.
  const stream = answer.body instanceof ReadableStream && answer.cache !== "collapsed" ? answer.body : null;
  await stream?.pipeTo(new WritableStream());
  const end = await follow.lastWord();
  if (end.state === "failed" && (end.status ?? 0) < 400)
    return { kind: "refused", refusal: refuse("origin_reset", { started: "yes" }) };
  if (end.unkept !== null) return { kind: "refused", refusal: UNKEPT[end.unkept]() };
  // A dialect cannot render an answer without images.
  const isDue = spec.resultsAt !== undefined && imagesDueAt(running.ask) !== null;
  if (isDue && answer.status < 300 && end.took.results === 0)
    return { kind: "refused", refusal: refuse("origin_invalid", { started: "yes", facts: NO_IMAGES }) };
  return { kind: "answer", answer: stream === null ? answer : { ...answer, body: null }, end };
}

/** Why a job fails whose answer was not kept. */
const UNKEPT: Record<Unkept, () => Refusal> = {
  too_large: () => answerTooLarge(ANSWER_BUFFERED_BYTES_MAX),
  no_room: () => ({ ...noRoom(), started: "yes" }),
  store_failed: () => refuse("internal", { started: "yes" }),
};

/** Looks for an answer stored by an earlier attempt of this job or by an identical request. */
async function findStoredAnswer(running: Running): Promise<Stored | null> {
  const { caller, keepAs, fingerprint, ask } = running;
  const own = await lookUp(running, answerKey(caller.tenant, keepAs ?? ""), Date.now());
  if (own !== null && own !== "expired") return own;
  const stored = fingerprint.cacheable && !ask.directives.noCache ? await findStored(running) : null;
  return stored === "expired" ? null : stored;
}

async function runningOf(
  env: Env,
  ctx: Context,
  { spec, failed }: Begin,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  follow: Follow,
): Promise<Running> {
  return {
    env,
    ctx,
    config: config(env),
    trace: follow.trace,
    caller,
    ask: { ...withTaskId(ask, spec.id), directives: { ...ask.directives, noStore: false } },
    fingerprint,
    priority: spec.priority,
    gone: follow.signal,
    base: spec.base,
    clientAddress: spec.clientAddress,
    replace: ask.directives.noCache,
    keepAs: await keptAs(spec.id),
    started: (grant: Grant) => follow.started(grant, limitsIn(caller.limits, spec.service).concurrent),
    requeued: (refusal: Refusal) => follow.requeued(errorOf(refusal)),
    ended: (end: RunEnd) => follow.ended(end),
    job: { arrivedAt: spec.createdAt, avoid: failed },
  };
}

/** Adds the job id as task id, by which a WebUI reports the progress of the task. */
function withTaskId(ask: Ask, id: string): Ask {
  const { body, fields } = ask;
  if (ask.service.config.kind !== "image" || body.kind !== "bytes" || fields?.kind !== "json") return ask;
  const text = withTask(fields.value, id);
  if (text === null) return ask;
  return { ...ask, body: { ...body, bytes: new TextEncoder().encode(text) as Uint8Array<ArrayBuffer> } };
}

/**
 * Returns null, and the body stays unchanged, if the value is no object, has inexact numbers, or is nested too deep for
 * the stack.
 */
function withTask(value: unknown, id: string): string | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  try {
    return isExact(value) ? JSON.stringify({ ...value, force_task_id: id }) : null;
  } catch {
    return null;
  }
}

/** The key under which the job's answer is stored, in place of a fingerprint; no other request has it. */
export async function keptAs(job: string): Promise<string> {
  return sha256(new TextEncoder().encode(`job\n${job}`));
}

async function askOf(env: Env, ctx: Context, spec: JobSpec): Promise<Ask | Refusal> {
  const service = (await catalog(env)).find(({ id }) => id === spec.service);
  if (service === undefined) return refuse("not_found");
  const entry = listed(service, spec.method, spec.path);
  if (isRefusal(entry)) return entry;
  const large = spec.input.kind === "r2" && spec.input.bytes > BUFFERED_BYTES_MAX ? spec.input : null;
  const init: RequestInit = { method: spec.method, headers: spec.headers };
  const bytes = large === null ? await inputOf(env, spec) : null;
  const request = new Request(`${spec.base}${spec.path}`, bytes === null ? init : { ...init, body: bytes });
  const { path, query, resultsAt } = spec;
  const asked = { tenant: spec.tenant, service, as: entry.as, path, query, laid: large !== null };
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const parsed = await parseAsk(request, asked, place, Date.now());
  if (isRefusal(parsed)) return parsed;
  const ask = resultsAt === undefined ? parsed : { ...parsed, resultsAt };
  if (large === null) return ask;
  // It was checked at submission, and is kept until the job has ended.
  const body = new Spooled(env.RESULTS, large.key, large.bytes, () => undefined);
  body.hold();
  return { ...ask, body, mediaType: request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? null };
}

async function inputOf(env: Env, { id, input }: JobSpec): Promise<Uint8Array<ArrayBuffer> | null> {
  if (input.kind === "none") return null;
  if (input.kind === "inline") return input.bytes;
  const object = await withTimeout(env.RESULTS.get(input.key));
  if (object === null) throw new Error(`the input of ${id} is lost`);
  return new Uint8Array(await withTimeout(object.arrayBuffer()));
}

function lateStart({ createdAt }: JobSpec): Refusal {
  return refuse("queue_timeout", { facts: { waited_s: Math.round((Date.now() - createdAt) / 1000) } });
}

async function outcomeOf(env: Env, begun: Begin, result: AttemptResult, gpuMs: number): Promise<Outcome> {
  if (result.kind === "refused") return refusedOutcome(begun, result, gpuMs);
  const { answer } = result;
  const contentType = answer.headers.get("content-type");
  const bytes = await toldBytes(answer);
  if (answer.status >= 400) {
    const final = !PASSING.has(answer.status);
    const error = errorOf(refuse("origin_status", { facts: { status: answer.status }, started: "yes", final }));
    const leastMs = Math.min(ORIGIN_PAUSE_MS_MAX, retryAfterIn(answer.headers, Date.now()) ?? 0);
    const retryAt = final ? null : retryAtOf(begun, leastMs);
    if (retryAt !== null) return { kind: "again", error, retryAt, gpuMs };
    const own: JobAnswer = { status: answer.status, contentType, key: null, body: textOf(bytes) };
    return { kind: "failed", error, answer: own, gpuMs, bill: billOf(begun, result, answer.status) };
  }
  const results = (await resultsOf(env, begun.spec.tenant, resultIds(result))).map(asJobResult);
  const output = withoutImages(bytes, contentType);
  return {
    kind: "succeeded",
    results,
    output,
    answer: { status: answer.status, contentType, key: null, body: null },
    gpuMs,
    bill: billOf(begun, result, answer.status),
  };
}

function resultIds(result: Extract<AttemptResult, { kind: "answer" }>): string[] {
  return result.end?.results.length ? result.end.results : result.answer.results;
}

/**
 * Decides whether to retry: only a retryable failure is retried, while attempts are left. Errors of the caller and a
 * missed deadline are final.
 */
function refusedOutcome(begun: Begin, result: Extract<AttemptResult, { kind: "refused" }>, gpuMs: number): Outcome {
  const { refusal } = result;
  const error = errorOf(refusal);
  const isFinal = !isRetryable(refusal) || refusal.reason === "queue_timeout";
  const retryAt = isFinal ? null : retryAtOf(begun, 0);
  if (retryAt !== null) return { kind: "again", error, retryAt, gpuMs };
  return { kind: "failed", error, answer: null, gpuMs, bill: billOf(begun, result, null) };
}

/** When the next retry is due, at least `leastMs` from now; null: no attempt is left. */
function retryAtOf({ attempts, spec }: Begin, leastMs: number): number | null {
  if (spec.retries === false || attempts >= RETRIES_MAX) return null;
  const pauseMs = RETRY_MS * 2 ** attempts * (1 + Math.random() * RETRY_JITTER);
  return Math.ceil(Date.now() + Math.max(leastMs, pauseMs));
}

function errorOf({ reason, param, started, facts, retryAfterMs, final }: Refusal): JobError {
  return { reason, param, started, facts, retryAfterMs: retryAfterMs ?? null, ...(final ? { final } : {}) };
}

function asJobResult({ id, contentType, bytes, sha256: digest }: Result): JobResult {
  return { id, contentType, bytes, sha256: digest };
}

/** Returns the body if it is an origin's error or JSON, to be kept with the job. Other bodies are not read. */
async function toldBytes({ status, headers, body }: Answer | Stored): Promise<Uint8Array<ArrayBuffer> | null> {
  const stream = body instanceof ReadableStream ? body : null;
  if (body === null || stream?.locked === true) return null;
  if (status >= 400 || isJson(mediaTypeOf(headers))) return new Uint8Array(await new Response(body).arrayBuffer());
  await stream?.cancel();
  return null;
}

function textOf(bytes: Uint8Array | null): string | null {
  if (bytes === null || bytes.byteLength > OWN_ERROR_BYTES_MAX) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
  } catch {
    return null;
  }
}

/** What the job is charged. An answer that was stored before any card began the job costs its rate token only. */
function billOf({ startedAt }: Begin, result: AttemptResult, status: number | null): Bill {
  if (result.kind === "refused") return { status, charge: "nothing", took: { reason: result.refusal.reason } };
  if (result.end !== null) return { status, charge: result.end.charge, took: result.end.took };
  // A card had begun, but a crash lost the run's final report: charge what the job was admitted for.
  return startedAt === null
    ? { status, charge: result.hits ? "price" : "token", took: {} }
    : { status, charge: "all", took: { results: null } };
}

function log({ id, tenant, service }: JobSpec, run: number, outcome: Outcome, ms: number): void {
  const reason = "error" in outcome ? outcome.error.reason : null;
  console.log(JSON.stringify({ event: "job_try", job: id, tenant, service, run, outcome: outcome.kind, reason, ms }));
}
