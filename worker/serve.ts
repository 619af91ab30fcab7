/**
 * A service route: the origin's own API, unified. The way of one request, stage by stage:
 * who is it -> what is asked -> have we got it -> may it -> who runs it, run it, keep it -> answer.
 */
import { parseAsk, type Ask } from "./ask.ts";
import { type Caller, clientAddress, mayCall } from "./auth.ts";
import { letGo } from "./body.ts";
import type { Stored } from "./cache.ts";
import { callerWith } from "./caller.ts";
import { listed, type Target } from "./catalog.ts";
import type { ServiceRow } from "./db/queries.ts";
import { config, type Env, unsureHost } from "./env.ts";
import { fingerprint, type Fingerprint } from "./fingerprint.ts";
import type { Grant } from "./lease.ts";
import { admit, guardHit } from "./limits.ts";
import { provision } from "./provision.ts";
import { readOrigin } from "./read.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { findStored } from "./recall.ts";
import { type Answer, run } from "./run.ts";
import { signedUrl } from "./signature.ts";
import { timed, type Trace } from "./trace.ts";

/** What any mouth has in hand: the caller's request, and our public address. */
export interface Mouth {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
}

export interface Serving extends Mouth {
  service: ServiceRow;
  target: Target;
}

/** An answer as a mouth shows it; the trace's headers tell where it came from. */
export type Shown = Omit<Answer, "cache">;

/** Who follows a run: it is told each card that begins it, and says when nobody wants it any more. */
export interface Follower {
  gone: AbortSignal;
  started: (grant: Grant) => void;
}

export async function serve(serving: Serving): Promise<Response | Refusal> {
  const { request, env, ctx, trace, service, target } = serving;
  trace.fields["service"] = service.id;
  const caller = await callerWith("infer", serving);
  if (isRefusal(caller)) return caller;
  const denied = mayCall(caller, service.id);
  if (denied !== null) return denied;
  const entry = listed(service, request.method, target.path);
  if (isRefusal(entry)) return entry;
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const ask = await parseAsk(request, { tenant: caller.tenant, service, as: entry.as, ...target }, place, Date.now());
  if (isRefusal(ask)) return ask;
  const shown = await answerAsk(serving, caller, ask);
  if (isRefusal(shown)) return shown;
  await link(serving, shown.headers, shown.results);
  return new Response(shown.body, { status: shown.status, headers: shown.headers });
}

/** From an Ask to its answer: the core that every mouth calls. The ask's body is let go. */
export async function answerAsk(
  mouth: Mouth,
  caller: Caller,
  ask: Ask,
  follower: Follower | null = null,
): Promise<Shown | Refusal> {
  mouth.trace.fields["service"] = ask.service.id;
  try {
    return await answerHeld(mouth, caller, ask, follower);
  } finally {
    letGo(ask.body);
  }
}

async function answerHeld(mouth: Mouth, caller: Caller, ask: Ask, follower: Follower | null): Promise<Shown | Refusal> {
  const { request, env, ctx, trace, base } = mouth;
  const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
  const found = await haveWeGotIt(mouth, caller, ask, print);
  if (found !== null && found !== "expired") return found;
  if (ask.directives.onlyIfCached) return refuse("not_cached");
  const limited = await timed(trace, "limit", () => admit(env, caller, trace, ask));
  if (limited !== null) return limited;
  const address = clientAddress(request, env);
  const { access } = config(env);
  if (ask.as === "read") {
    const call = { requestId: trace.id, clientAddress: address, base };
    const response = await readOrigin({
      env,
      ctx,
      ask,
      trace,
      call,
      access,
      provision: () => provision(env, ask.service.id),
    });
    if (isRefusal(response)) return response;
    const { status, headers, body } = response;
    return { status, headers, body, results: [] };
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
    gone: follower?.gone ?? request.signal,
    base,
    clientAddress: address,
    replace,
    ...(follower === null ? {} : { started: follower.started }),
  });
  return isRefusal(answer) ? answer : fromRun(trace, ask, answer);
}

/** The hit, or why there is none: null, or an answer that is over its time. */
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
  const flood = await guardHit(env, caller);
  if (flood !== null) {
    if (stored.body instanceof ReadableStream) await stored.body.cancel();
    return flood;
  }
  return fromStore(trace, stored);
}

function fromStore(trace: Trace, stored: Stored): Shown {
  const now = Date.now();
  trace.headers.set("cache-status", `portico; hit; ttl=${Math.floor((stored.expiresAt - now) / 1000)}`);
  trace.fields["cache"] = "hit";
  const headers = new Headers(stored.headers);
  headers.set("age", String(Math.max(0, Math.floor((now - stored.storedAt) / 1000))));
  headers.set("content-length", String(stored.bytes));
  return { status: stored.status, headers, body: stored.body, results: stored.results };
}

function fromRun(trace: Trace, ask: Ask, answer: Answer): Shown {
  const forward = ask.directives.noCache && answer.cache === "stored" ? "request" : "miss";
  const suffix = answer.cache === "stored" || answer.cache === "collapsed" ? `; ${answer.cache}` : "";
  trace.headers.set(
    "cache-status",
    answer.cache === "bypass" ? "portico; fwd=bypass" : `portico; fwd=${forward}${suffix}`,
  );
  trace.fields["cache"] = answer.cache;
  return { ...answer, headers: new Headers(answer.headers) };
}

/** `Link` (RFC 8288): where each finished image or sound is, signed for a day. */
export async function link({ env, base }: Mouth, headers: Headers, results: string[]): Promise<void> {
  const now = Date.now();
  for (const id of results) headers.append("link", `<${await signedUrl(config(env), base, id, now)}>; rel="enclosure"`);
}
