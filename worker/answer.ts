/**
 * Turns an Ask into its answer, stage by stage: an earlier request with the same idempotency name, the result cache,
 * admission, then the run and storing its results. Every dialect calls this core; a dialect builds the ask and renders
 * the answer.
 */
import type { KeyOutcome } from "../durable-objects/idempotency-protocol.ts";
import type { Ask } from "./ask.ts";
import { type Caller, clientAddress } from "./auth.ts";
import { letGo } from "./body/body.ts";
import { lookUp, type Stored } from "./cache.ts";
import { config, unsureHost } from "./env.ts";
import { fingerprintOf, type Fingerprint } from "./fingerprint.ts";
import { answerFromJob, type Preference, submitAsJob, unmeetable } from "./jobs/prefer.ts";
import { submissionState } from "./jobs/submit.ts";
import type { Grant } from "./run/lease.ts";
import type { CallContext } from "./call-context.ts";
import { admit, admitHit, admitReplay, guardHit } from "./limits.ts";
import { isReplay, isRetry, type Once, onceOf, type Replay, REPLAYED } from "./once.ts";
import { sandboxed } from "./run/headers.ts";
import { provision } from "./services/provision.ts";
import { readOrigin } from "./run/read.ts";
import { findStored } from "./results/recall.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { type Answer, run, type RunEnd } from "./run.ts";
import { answerAt, keepMsOf, named, settleError, settleRun } from "./settle.ts";
import { count } from "./caller/tally.ts";
import { timed, type Trace } from "./trace.ts";

/** An answer as a dialect renders it. The trace's headers say whether it came from the cache or from a run. */
export type RenderedAnswer = Omit<Answer, "cache" | "unkept">;

/**
 * Callbacks about a run: `started` is called for each card that begins it, `ended` when its results have been stored.
 * `gone` is aborted when nobody wants the run any more.
 */
export interface Follower {
  gone: AbortSignal;
  started?: (grant: Grant) => void;
  ended?: (end: RunEnd) => void;
}

/** How the caller wants the request handled. */
export interface AnswerOptions {
  /** Run it as a job (`Prefer`). */
  preference?: Preference | null;
  follower?: Follower;
}

/** Returns the answer or a refusal. Releases the ask's body in either case. */
export async function answerAsk(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  options: AnswerOptions = {},
): Promise<RenderedAnswer | Refusal> {
  context.trace.fields["service"] = ask.service.id;
  try {
    return await answerNamed(context, caller, ask, options);
  } finally {
    letGo(ask.body);
  }
}

/** Counts an outcome that was reached before admission. It is only tallied in the isolate: no call to the Tenant. */
export function counted<T extends RenderedAnswer | Refusal>(
  context: CallContext,
  { tenant, key }: Caller,
  service: string,
  outcome: T,
): T {
  count(context, { tenant, service, key }, outcome);
  return outcome;
}

async function answerNamed(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  options: AnswerOptions,
): Promise<RenderedAnswer | Refusal> {
  const { request, env, base } = context;
  const isMaking = ask.as === "run" && ask.method === "POST";
  const fingerprint = await fingerprintOf(ask, caller.tenant, unsureHost(env, base));
  const joins = !fingerprint.cacheable || (options.preference ?? null) !== null;
  const once = isMaking ? await onceOf(env, caller, request, named(request, ask), joins) : null;
  if (isRefusal(once)) return counted(context, caller, ask.service.id, once);
  if (isReplay(once)) return replay(context, caller, ask, once, options);
  if (ask.deferredRefusal !== undefined) {
    await once?.drop();
    return counted(context, caller, ask.service.id, ask.deferredRefusal);
  }
  if (once === null) return joined(context, await answerOnce(context, caller, ask, fingerprint, options, null));
  try {
    const answer = await answerOnce(context, caller, ask, fingerprint, options, once);
    if (isRefusal(answer)) await once.refused();
    return answer;
  } catch (error) {
    await once.drop();
    throw error;
  }
}

/** Marks the answer as replayed when a client's retry was served by an earlier run or from the cache. */
function joined<T>({ request, trace }: CallContext, outcome: T): T {
  const { cache } = trace.fields;
  if (isRetry(request.headers) && (cache === "hit" || cache === "collapsed")) trace.headers.set(REPLAYED, "true");
  return outcome;
}

async function answerOnce(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  { preference = null, follower }: AnswerOptions,
  once: Once | null,
): Promise<RenderedAnswer | Refusal> {
  const { request, env, ctx, trace, base } = context;
  const isAsync = preference?.waitS === 0;
  if (preference !== null && isAsync && !ask.directives.onlyIfCached)
    return asJob(context, caller, ask, fingerprint, preference, once);
  const found = await findCachedAnswer(context, caller, ask, fingerprint);
  if (found !== null && found !== "expired") {
    if (preference !== null && !isAsync && !isRefusal(found))
      trace.headers.set("preference-applied", preference.applied);
    if (!isRefusal(found)) await once?.settle(answerAt(caller, fingerprint), keepMsOf(ask));
    return counted(context, caller, ask.service.id, found);
  }
  // For refusals; an answer overwrites it with more detail.
  trace.headers.set("cache-status", `portico; fwd=${fingerprint.cacheable ? "miss" : "bypass"}`);
  if (ask.directives.onlyIfCached) return counted(context, caller, ask.service.id, refuse("not_cached"));
  if (preference !== null) return asJob(context, caller, ask, fingerprint, preference, once);
  const limited = await timed(trace, "limit", () =>
    admit(env, caller, trace, ask, fingerprint.cacheable ? fingerprint.key : null),
  );
  if (limited !== null) return counted(context, caller, ask.service.id, limited);
  if (ask.as === "read") return read(context, caller, ask);
  once?.markRunning();
  const answer = await run({
    env,
    ctx,
    config: config(env),
    trace,
    caller,
    ask,
    fingerprint,
    priority: "normal",
    gone: follower?.gone ?? request.signal,
    base,
    clientAddress: clientAddress(request, env),
    replace: ask.directives.noCache || found === "expired",
    // A getter: whether a retry may come for the answer may only become known during the run.
    get keepAs() {
      return once?.keepAs ?? null;
    },
    started: follower?.started ?? null,
    ended: (end) => {
      follower?.ended?.(end);
      if (once !== null) ctx.waitUntil(settleRun(once, caller, ask, fingerprint, end));
    },
    job: null,
  });
  if (isRefusal(answer)) return answer;
  if (once !== null && answer.status >= 400) await settleError(once, answer, keepMsOf(ask));
  return fromRun(trace, ask, answer);
}

async function read(
  { request, env, ctx, trace, base }: CallContext,
  caller: Caller,
  ask: Ask,
): Promise<RenderedAnswer | Refusal> {
  const call = { requestId: trace.id, clientAddress: clientAddress(request, env), base };
  const { access } = config(env);
  const again = (): Promise<void> => provision(env, ask.service.id);
  const response = await readOrigin({
    env,
    ctx,
    caller,
    ask,
    trace,
    call,
    access,
    gone: request.signal,
    provision: again,
  });
  if (isRefusal(response)) return response;
  const { status, headers, body } = response;
  return { status, headers, body, results: [] };
}

/** Submits the request as a job. Later requests with the same idempotency name get that job. */
async function asJob(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  preference: Preference,
  once: Once | null,
): Promise<RenderedAnswer | Refusal> {
  const late = await unmeetable(context.env, caller, ask);
  if (late !== null) return counted(context, caller, ask.service.id, late);
  const id = await submitAsJob(context, caller, ask, preference, once);
  if (isRefusal(id)) return id;
  return answerFromJob(context, caller, ask, fingerprint, preference, id, asRoute(context, ask, fingerprint));
}

/** Renders a job's stored answer as a direct run of the route would have been rendered. */
function asRoute({ trace }: CallContext, ask: Ask, fingerprint: Fingerprint) {
  return ({ status, headers, body, results }: Stored): RenderedAnswer =>
    fromRun(trace, ask, {
      status,
      headers,
      body,
      results: ask.directives.noStore ? [] : results,
      unkept: null,
      cache: fingerprint.cacheable ? "stored" : "bypass",
    });
}

/**
 * Answers with the outcome of an earlier request of the same name, for one rate token and no quota. If that outcome no
 * longer exists, the request runs as if it were the first.
 */
async function replay(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  earlier: Replay,
  options: AnswerOptions,
): Promise<RenderedAnswer | Refusal> {
  const { env, trace } = context;
  const found = await foundAgain(context, caller, earlier.replay);
  if (found === null) {
    await earlier.forget();
    return answerNamed(context, caller, ask, options);
  }
  if (isRefusal(found)) return counted(context, caller, ask.service.id, found);
  const limited = await timed(trace, "limit", () => admitReplay(env, caller, trace, ask.service));
  if (limited === null) return replayed(context, caller, ask, found, options.preference ?? null);
  if ("body" in found && found.body instanceof ReadableStream) await found.body.cancel();
  return counted(context, caller, ask.service.id, limited);
}

type Earlier = Exclude<KeyOutcome, { kind: "answer" | "batch" | "secret" | "file" | "delivery" }> | Stored;

/** Returns null when the earlier outcome no longer exists, a refusal while its submission is still under way. */
async function foundAgain(context: CallContext, caller: Caller, made: KeyOutcome): Promise<Earlier | Refusal | null> {
  if (made.kind === "error") return made;
  if (made.kind !== "job" && made.kind !== "answer") return null;
  if (made.kind === "job") {
    const absent = await submissionState(context, caller, made.id);
    return absent === "gone" ? null : (absent ?? made);
  }
  for (const key of made.keys) {
    const stored = await lookUp(context, key, Date.now(), true);
    if (stored !== null && stored !== "expired") return stored;
  }
  return null;
}

async function replayed(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  earlier: Earlier,
  preference: Preference | null,
): Promise<RenderedAnswer | Refusal> {
  const { env, base, trace } = context;
  trace.headers.set(REPLAYED, "true");
  if (preference !== null) trace.headers.set("preference-applied", preference.applied);
  if (!("kind" in earlier)) return fromStore(trace, earlier);
  if (earlier.kind === "error") {
    const headers = sandboxed(new Headers(earlier.contentType === null ? {} : { "content-type": earlier.contentType }));
    return { status: earlier.status, headers, body: earlier.body, results: [] };
  }
  const fingerprint = await fingerprintOf(ask, caller.tenant, unsureHost(env, base));
  return answerFromJob(context, caller, ask, fingerprint, preference, earlier.id, asRoute(context, ask, fingerprint));
}

/** Returns the cache hit or a refusal; null when nothing is stored, `expired` when the stored answer has expired. */
async function findCachedAnswer(
  { env, trace, base, ctx }: CallContext,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
): Promise<RenderedAnswer | Refusal | "expired" | null> {
  const { noCache } = ask.directives;
  const stored =
    fingerprint.cacheable && !noCache
      ? await timed(trace, "cache", () => findStored({ env, ask, fingerprint, caller, trace, base, ctx }))
      : null;
  if (stored === null || stored === "expired") return stored;
  const refused =
    (await guardHit(env, caller, ask.service.id)) ?? (await admitHit(env, caller, trace, ask, stored.results));
  if (refused !== null) {
    if (stored.body instanceof ReadableStream) await stored.body.cancel();
    return refused;
  }
  return fromStore(trace, stored);
}

function fromStore(trace: Trace, stored: Stored): RenderedAnswer {
  const now = Date.now();
  trace.headers.set("cache-status", `portico; hit; ttl=${Math.max(0, Math.floor((stored.expiresAt - now) / 1000))}`);
  trace.fields["cache"] = "hit";
  const { status, headers, body, results } = stored;
  // Set on the trace, so that a dialect's own rendering has it too.
  trace.headers.set("age", String(Math.max(0, Math.floor((now - stored.storedAt) / 1000))));
  headers.set("content-length", String(stored.bytes));
  return { status, headers, body, results };
}

function fromRun(trace: Trace, ask: Ask, answer: Answer): RenderedAnswer {
  const forward = ask.directives.noCache && answer.cache === "stored" ? "request" : "miss";
  const suffix = answer.cache === "stored" || answer.cache === "collapsed" ? `; ${answer.cache}` : "";
  const detail = answer.unkept === null ? "" : `; detail=${answer.unkept}`;
  const way = answer.cache === "bypass" ? "bypass" : forward + suffix;
  trace.headers.set("cache-status", `portico; fwd=${way}${detail}`);
  trace.fields["cache"] = answer.cache;
  return { ...answer, headers: new Headers(answer.headers) };
}
