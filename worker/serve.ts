/**
 * A service route: the origin's own API, unified. The way of one request, stage by stage:
 * who is it -> what is asked -> have we got it -> may it -> who runs it, run it, keep it -> answer.
 */
import { parseAsk, type Ask } from "./ask.ts";
import { type Caller, clientAddress, mayCall } from "./auth.ts";
import { letGo } from "./body.ts";
import type { Made } from "../durable-objects/idempotency-protocol.ts";
import { lookUp, type Stored } from "./cache.ts";
import { callerWith } from "./caller.ts";
import { listed, type Target } from "./catalog.ts";
import type { ServiceRow } from "./db/queries.ts";
import { config, type Env, unsureHost } from "./env.ts";
import { fingerprint, type Fingerprint } from "./fingerprint.ts";
import { admit, admitReplay, guardHit } from "./limits.ts";
import { isReplay, type Once, onceOf, type Replay, REPLAYED } from "./once.ts";
import { tamed } from "./origin.ts";
import { provision } from "./provision.ts";
import { readOrigin } from "./read.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { followJob, type Preference, preferenceOf, submitAsJob } from "./jobs/prefer.ts";
import { findStored } from "./recall.ts";
import { type Answer, run } from "./run.ts";
import { answerAt, keepMsOf, named, settleError, settleRun } from "./settle.ts";
import { signedUrl } from "./signature.ts";
import { count } from "./tally.ts";
import { timed, type Trace } from "./trace.ts";

export interface Serving {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  service: ServiceRow;
  target: Target;
  base: string;
}

export async function serve(serving: Serving): Promise<Response | Refusal> {
  const { trace, service } = serving;
  trace.fields["service"] = service.id;
  const caller = await callerWith("infer", serving);
  if (isRefusal(caller)) return caller;
  const preference = preferenceOf(serving.request.headers);
  if (isRefusal(preference)) return counted(serving, caller, preference);
  const ask = await askOf(serving, caller, preference !== null);
  if (isRefusal(ask)) return counted(serving, caller, ask);
  try {
    // A read is answered at once, whatever is preferred.
    return await answerAsk(serving, caller, ask, ask.as === "run" ? preference : null);
  } finally {
    letGo(ask.body);
  }
}

/** `later`: its body has to outlive the request. */
async function askOf(
  { request, env, ctx, service, target }: Serving,
  caller: Caller,
  later: boolean,
): Promise<Ask | Refusal> {
  const denied = mayCall(caller, service.id);
  if (denied !== null) return denied;
  const entry = listed(service, request.method, target.path);
  if (isRefusal(entry)) return entry;
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const asked = { tenant: caller.tenant, service, as: entry.as, ...target, later: later && entry.as === "run" };
  return parseAsk(request, asked, place, Date.now());
}

/** What ends before it is admitted is told to no Tenant, only counted. */
function counted<T extends Response | Refusal>(serving: Serving, { tenant, key }: Caller, outcome: T): T {
  count(serving, { tenant, service: serving.service.id, key }, outcome);
  return outcome;
}

async function answerAsk(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  preference: Preference | null,
): Promise<Response | Refusal> {
  const once =
    ask.as === "run" && ask.method === "POST" ? await onceOf(serving.env, caller, ask.headers, named(ask)) : null;
  if (isRefusal(once)) return counted(serving, caller, once);
  if (isReplay(once)) return replay(serving, caller, ask, once, preference);
  if (once === null) return answerOnce(serving, caller, ask, preference, null);
  try {
    const answer = await answerOnce(serving, caller, ask, preference, once);
    // A run that goes on says itself what becomes of it.
    if (isRefusal(answer)) await once.drop();
    return answer;
  } catch (error) {
    await once.drop();
    throw error;
  }
}

async function answerOnce(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  preference: Preference | null,
  once: Once | null,
): Promise<Response | Refusal> {
  const { request, env, ctx, trace, service, base } = serving;
  const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
  if (preference?.waitS === 0) return asJob(serving, caller, ask, print, preference, once);
  const found = await haveWeGotIt(serving, caller, ask, print);
  if (found !== null && found !== "expired") {
    if (!isRefusal(found)) await once?.settle(answerAt(caller, print), keepMsOf(ask));
    return counted(serving, caller, found);
  }
  if (ask.directives.onlyIfCached) return counted(serving, caller, refuse("not_cached"));
  if (preference !== null) return asJob(serving, caller, ask, print, preference, once);
  const limited = await timed(trace, "limit", () => admit(env, caller, trace, ask));
  if (limited !== null) return counted(serving, caller, limited);
  const address = clientAddress(request, env);
  const { access } = config(env);
  if (ask.as === "read") {
    const call = { requestId: trace.id, clientAddress: address, base };
    const gone = request.signal;
    return readOrigin({
      env,
      ctx,
      caller,
      ask,
      trace,
      call,
      access,
      gone,
      provision: () => provision(env, service.id),
    });
  }
  const replace = ask.directives.noCache || found === "expired";
  const answer = await run({
    env,
    ctx,
    config: config(env),
    trace,
    caller,
    ask,
    print,
    priority: "normal",
    gone: request.signal,
    base,
    clientAddress: address,
    replace,
    keepAs: once?.keepAs ?? null,
    ended: once === null ? null : (end) => ctx.waitUntil(settleRun(once, caller, ask, print, end)),
    job: null,
  });
  if (isRefusal(answer)) return answer;
  if (once !== null && answer.status >= 400) await settleError(once, answer, keepMsOf(ask));
  return render(serving, ask, answer);
}

/** What an earlier request of this name came to. It takes a token and no quota. */
async function replay(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  earlier: Replay,
  preference: Preference | null,
): Promise<Response | Refusal> {
  const { env, trace } = serving;
  const limited = await timed(trace, "limit", () => admitReplay(env, caller, trace, ask));
  if (limited !== null) return limited;
  const answer = await replayed(serving, caller, ask, earlier.replay, preference);
  if (answer === null) {
    await earlier.forget();
    return answerAsk(serving, caller, ask, preference);
  }
  trace.headers.set(REPLAYED, "true");
  return answer;
}

/** Null: it is not to be had any more. */
async function replayed(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  made: Made,
  preference: Preference | null,
): Promise<Response | Refusal | null> {
  const { env, base } = serving;
  if (made.kind === "job") {
    const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
    return followJob(serving, caller, ask, print, preference, made.id, asRoute(serving, ask, print));
  }
  if (made.kind === "error") {
    const headers = tamed(new Headers(made.contentType === null ? {} : { "content-type": made.contentType }));
    return new Response(made.body, { status: made.status, headers });
  }
  if (made.kind === "batch") return null;
  for (const key of made.keys) {
    const stored = await lookUp(serving, key, Date.now(), true);
    if (stored !== null && stored !== "expired") return renderHit(serving, stored);
  }
  return null;
}

/** The hit, or why there is none: null, or an answer that is over its time. */
async function haveWeGotIt(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  print: Fingerprint,
): Promise<Response | Refusal | "expired" | null> {
  const { env, trace, base, ctx } = serving;
  const { noCache } = ask.directives;
  const stored =
    print.cacheable && !noCache
      ? await timed(trace, "cache", () => findStored({ env, ask, print, caller, trace, base, ctx }))
      : null;
  if (stored === null || stored === "expired") return stored;
  const flood = await guardHit(env, caller);
  if (flood !== null) {
    if (stored.body instanceof ReadableStream) await stored.body.cancel();
    return flood;
  }
  return renderHit(serving, stored);
}

/** The request as a job, which is told to later ones of its name. */
async function asJob(
  serving: Serving,
  caller: Caller,
  ask: Ask,
  print: Fingerprint,
  preference: Preference,
  once: Once | null,
): Promise<Response | Refusal> {
  const id = await submitAsJob(serving, caller, ask, preference);
  if (isRefusal(id)) return id;
  await once?.settle({ kind: "job", id }, keepMsOf(ask));
  return followJob(serving, caller, ask, print, preference, id, asRoute(serving, ask, print));
}

/** A job's answer is told as what a run of the route would have been. */
function asRoute(serving: Serving, ask: Ask, print: Fingerprint) {
  return ({ status, headers, body, results }: Stored): Promise<Response> =>
    render(serving, ask, { status, headers, body, results, cache: print.cacheable ? "stored" : "bypass" });
}

async function renderHit(serving: Serving, stored: Stored): Promise<Response> {
  const now = Date.now();
  const { trace } = serving;
  trace.headers.set("cache-status", `portico; hit; ttl=${Math.floor((stored.expiresAt - now) / 1000)}`);
  trace.fields["cache"] = "hit";
  const headers = new Headers(stored.headers);
  headers.set("age", String(Math.max(0, Math.floor((now - stored.storedAt) / 1000))));
  headers.set("content-length", String(stored.bytes));
  await link(serving, headers, stored.results);
  return new Response(stored.body, { status: stored.status, headers });
}

async function render(serving: Serving, ask: Ask, answer: Answer): Promise<Response> {
  const { trace } = serving;
  const forward = ask.directives.noCache && answer.cache === "stored" ? "request" : "miss";
  const suffix = answer.cache === "stored" || answer.cache === "collapsed" ? `; ${answer.cache}` : "";
  trace.headers.set(
    "cache-status",
    answer.cache === "bypass" ? "portico; fwd=bypass" : `portico; fwd=${forward}${suffix}`,
  );
  trace.fields["cache"] = answer.cache;
  const headers = new Headers(answer.headers);
  await link(serving, headers, answer.results);
  return new Response(answer.body, { status: answer.status, headers });
}

/** `Link` (RFC 8288): where each finished image or sound is, signed for a day. */
async function link({ env, base }: Serving, headers: Headers, results: string[]): Promise<void> {
  const now = Date.now();
  for (const id of results) headers.append("link", `<${await signedUrl(config(env), base, id, now)}>; rel="enclosure"`);
}
