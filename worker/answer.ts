/**
 * Turns an Ask into its answer, stage by stage: an earlier request with the same idempotency name, the result cache,
 * admission, then the run and storing its results. Every dialect calls this core; a dialect builds the ask and renders
 * the answer.
 */
import type { Made } from "../durable-objects/idempotency-protocol.ts";
import type { Ask } from "./ask.ts";
import { type Caller, clientAddress } from "./auth.ts";
import { letGo } from "./body/body.ts";
import { lookUp, type Stored } from "./cache.ts";
import { config, unsureHost } from "./env.ts";
import { fingerprint, type Fingerprint } from "./fingerprint.ts";
import { followJob, type Preference, submitAsJob, unmeetable } from "./jobs/prefer.ts";
import { absence } from "./jobs/submit.ts";
import type { Grant } from "./run/lease.ts";
import type { Mouth } from "./mouth.ts";
import { admit, admitHit, admitReplay, guardHit } from "./limits.ts";
import { isReplay, isRetry, type Once, onceOf, type Replay, REPLAYED } from "./once.ts";
import { tamed } from "./run/headers.ts";
import { provision } from "./services/provision.ts";
import { readOrigin } from "./run/read.ts";
import { findStored } from "./results/recall.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { type Answer, run, type RunEnd } from "./run.ts";
import { answerAt, keepMsOf, named, settleError, settleRun } from "./settle.ts";
import { count } from "./caller/tally.ts";
import { timed, type Trace } from "./trace.ts";

/** An answer as a dialect renders it. The trace's headers say whether it came from the cache or from a run. */
export type Shown = Omit<Answer, "cache" | "unkept">;

/**
 * Follows a run: `started` is called for each card that begins it, `ended` when its results have been stored, and `gone`
 * aborts when nobody wants it any more.
 */
export interface Follower {
  gone: AbortSignal;
  started?: (grant: Grant) => void;
  ended?: (end: RunEnd) => void;
}

/** How the caller wants the request handled. */
export interface Wish {
  /** Run it as a job (`Prefer`). */
  preference?: Preference | null;
  follower?: Follower;
}

/** Returns the answer or a refusal. Releases the ask's body in either case. */
export async function answerAsk(mouth: Mouth, caller: Caller, ask: Ask, wish: Wish = {}): Promise<Shown | Refusal> {
  mouth.trace.fields["service"] = ask.service.id;
  try {
    return await answerNamed(mouth, caller, ask, wish);
  } finally {
    letGo(ask.body);
  }
}

/** Counts an outcome that was reached before admission. It is only tallied in the isolate: no call to the Tenant. */
export function counted<T extends Shown | Refusal>(
  mouth: Mouth,
  { tenant, key }: Caller,
  service: string,
  outcome: T,
): T {
  count(mouth, { tenant, service, key }, outcome);
  return outcome;
}

async function answerNamed(mouth: Mouth, caller: Caller, ask: Ask, wish: Wish): Promise<Shown | Refusal> {
  const { request, env, base } = mouth;
  const isMaking = ask.as === "run" && ask.method === "POST";
  const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
  const joins = !print.cacheable || (wish.preference ?? null) !== null;
  const once = isMaking ? await onceOf(env, caller, request, named(request, ask), joins) : null;
  if (isRefusal(once)) return counted(mouth, caller, ask.service.id, once);
  if (isReplay(once)) return replay(mouth, caller, ask, once, wish);
  if (ask.unfit !== undefined) {
    await once?.drop();
    return counted(mouth, caller, ask.service.id, ask.unfit);
  }
  if (once === null) return joined(mouth, await answerOnce(mouth, caller, ask, print, wish, null));
  try {
    const answer = await answerOnce(mouth, caller, ask, print, wish, once);
    if (isRefusal(answer)) await once.refused();
    return answer;
  } catch (error) {
    await once.drop();
    throw error;
  }
}

/** Marks the answer as replayed when a client's retry was served by an earlier run or from the cache. */
function joined<T>({ request, trace }: Mouth, outcome: T): T {
  const { cache } = trace.fields;
  if (isRetry(request.headers) && (cache === "hit" || cache === "collapsed")) trace.headers.set(REPLAYED, "true");
  return outcome;
}

async function answerOnce(
  mouth: Mouth,
  caller: Caller,
  ask: Ask,
  print: Fingerprint,
  { preference = null, follower }: Wish,
  once: Once | null,
): Promise<Shown | Refusal> {
  const { request, env, ctx, trace, base } = mouth;
  const isAsync = preference?.waitS === 0;
  if (preference !== null && isAsync && !ask.directives.onlyIfCached)
    return asJob(mouth, caller, ask, print, preference, once);
  const found = await haveWeGotIt(mouth, caller, ask, print);
  if (found !== null && found !== "expired") {
    if (preference !== null && !isAsync && !isRefusal(found))
      trace.headers.set("preference-applied", preference.applied);
    if (!isRefusal(found)) await once?.settle(answerAt(caller, print), keepMsOf(ask));
    return counted(mouth, caller, ask.service.id, found);
  }
  // Of a refusal; an answer says more.
  trace.headers.set("cache-status", `portico; fwd=${print.cacheable ? "miss" : "bypass"}`);
  if (ask.directives.onlyIfCached) return counted(mouth, caller, ask.service.id, refuse("not_cached"));
  if (preference !== null) return asJob(mouth, caller, ask, print, preference, once);
  const limited = await timed(trace, "limit", () => admit(env, caller, trace, ask, print.cacheable ? print.key : null));
  if (limited !== null) return counted(mouth, caller, ask.service.id, limited);
  if (ask.as === "read") return read(mouth, caller, ask);
  once?.runs();
  const answer = await run({
    env,
    ctx,
    config: config(env),
    trace,
    caller,
    ask,
    print,
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
      if (once !== null) ctx.waitUntil(settleRun(once, caller, ask, print, end));
    },
    job: null,
  });
  if (isRefusal(answer)) return answer;
  if (once !== null && answer.status >= 400) await settleError(once, answer, keepMsOf(ask));
  return fromRun(trace, ask, answer);
}

async function read({ request, env, ctx, trace, base }: Mouth, caller: Caller, ask: Ask): Promise<Shown | Refusal> {
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
  mouth: Mouth,
  caller: Caller,
  ask: Ask,
  print: Fingerprint,
  preference: Preference,
  once: Once | null,
): Promise<Shown | Refusal> {
  const late = await unmeetable(mouth.env, caller, ask);
  if (late !== null) return counted(mouth, caller, ask.service.id, late);
  const id = await submitAsJob(mouth, caller, ask, preference, once);
  if (isRefusal(id)) return id;
  return followJob(mouth, caller, ask, print, preference, id, asRoute(mouth, ask, print));
}

/** Renders a job's stored answer as a direct run of the route would have been rendered. */
function asRoute({ trace }: Mouth, ask: Ask, print: Fingerprint) {
  return ({ status, headers, body, results }: Stored): Shown =>
    fromRun(trace, ask, {
      status,
      headers,
      body,
      results: ask.directives.noStore ? [] : results,
      unkept: null,
      cache: print.cacheable ? "stored" : "bypass",
    });
}

/**
 * Answers with the outcome of an earlier request of the same name, for one rate token and no quota. If that outcome no
 * longer exists, the request runs as if it were the first.
 */
async function replay(mouth: Mouth, caller: Caller, ask: Ask, earlier: Replay, wish: Wish): Promise<Shown | Refusal> {
  const { env, trace } = mouth;
  const found = await foundAgain(mouth, caller, earlier.replay);
  if (found === null) {
    await earlier.forget();
    return answerNamed(mouth, caller, ask, wish);
  }
  if (isRefusal(found)) return counted(mouth, caller, ask.service.id, found);
  const limited = await timed(trace, "limit", () => admitReplay(env, caller, trace, ask.service));
  if (limited === null) return replayed(mouth, caller, ask, found, wish.preference ?? null);
  if ("body" in found && found.body instanceof ReadableStream) await found.body.cancel();
  return counted(mouth, caller, ask.service.id, limited);
}

type Earlier = Exclude<Made, { kind: "answer" | "batch" | "secret" | "file" | "delivery" }> | Stored;

/** Returns null when the earlier outcome no longer exists, a refusal while its submission is still under way. */
async function foundAgain(mouth: Mouth, caller: Caller, made: Made): Promise<Earlier | Refusal | null> {
  if (made.kind === "error") return made;
  if (made.kind !== "job" && made.kind !== "answer") return null;
  if (made.kind === "job") {
    const absent = await absence(mouth, caller, made.id);
    return absent === "gone" ? null : (absent ?? made);
  }
  for (const key of made.keys) {
    const stored = await lookUp(mouth, key, Date.now(), true);
    if (stored !== null && stored !== "expired") return stored;
  }
  return null;
}

async function replayed(
  mouth: Mouth,
  caller: Caller,
  ask: Ask,
  earlier: Earlier,
  preference: Preference | null,
): Promise<Shown | Refusal> {
  const { env, base, trace } = mouth;
  trace.headers.set(REPLAYED, "true");
  if (preference !== null) trace.headers.set("preference-applied", preference.applied);
  if (!("kind" in earlier)) return fromStore(trace, earlier);
  if (earlier.kind === "error") {
    const headers = tamed(new Headers(earlier.contentType === null ? {} : { "content-type": earlier.contentType }));
    return { status: earlier.status, headers, body: earlier.body, results: [] };
  }
  const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
  return followJob(mouth, caller, ask, print, preference, earlier.id, asRoute(mouth, ask, print));
}

/** Returns the cache hit or a refusal; null when nothing is stored, `expired` when the stored answer has expired. */
async function haveWeGotIt(
  { env, trace, base, ctx }: Mouth,
  caller: Caller,
  ask: Ask,
  print: Fingerprint,
): Promise<Shown | Refusal | "expired" | null> {
  const { noCache } = ask.directives;
  const stored =
    print.cacheable && !noCache
      ? await timed(trace, "cache", () => findStored({ env, ask, print, caller, trace, base, ctx }))
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

function fromStore(trace: Trace, stored: Stored): Shown {
  const now = Date.now();
  trace.headers.set("cache-status", `portico; hit; ttl=${Math.max(0, Math.floor((stored.expiresAt - now) / 1000))}`);
  trace.fields["cache"] = "hit";
  const { status, headers, body, results } = stored;
  // Also on a dialect's own rendering.
  trace.headers.set("age", String(Math.max(0, Math.floor((now - stored.storedAt) / 1000))));
  headers.set("content-length", String(stored.bytes));
  return { status, headers, body, results };
}

function fromRun(trace: Trace, ask: Ask, answer: Answer): Shown {
  const forward = ask.directives.noCache && answer.cache === "stored" ? "request" : "miss";
  const suffix = answer.cache === "stored" || answer.cache === "collapsed" ? `; ${answer.cache}` : "";
  const detail = answer.unkept === null ? "" : `; detail=${answer.unkept}`;
  const way = answer.cache === "bypass" ? "bypass" : forward + suffix;
  trace.headers.set("cache-status", `portico; fwd=${way}${detail}`);
  trace.fields["cache"] = answer.cache;
  return { ...answer, headers: new Headers(answer.headers) };
}
