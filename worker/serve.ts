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
import { admit, guardHit } from "./limits.ts";
import { provision } from "./provision.ts";
import { readOrigin } from "./read.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { findStored } from "./recall.ts";
import { type Answer, run } from "./run.ts";
import { signedUrl } from "./signature.ts";
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
  try {
    return await answerAsk(serving, caller, ask);
  } finally {
    letGo(ask.body);
  }
}

async function answerAsk(serving: Serving, caller: Caller, ask: Ask): Promise<Response | Refusal> {
  const { request, env, ctx, trace, service, base } = serving;
  const print = await fingerprint(ask, caller.tenant, unsureHost(env, base));
  const found = await haveWeGotIt(serving, caller, ask, print);
  if (found !== null && found !== "expired") return found;
  if (ask.directives.onlyIfCached) return refuse("not_cached");
  const limited = await timed(trace, "limit", () => admit(env, caller, trace, ask));
  if (limited !== null) return limited;
  const address = clientAddress(request, env);
  const { access } = config(env);
  if (ask.as === "read") {
    const call = { requestId: trace.id, clientAddress: address, base };
    return readOrigin({ env, ctx, ask, trace, call, access, provision: () => provision(env, service.id) });
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
  });
  return isRefusal(answer) ? answer : render(serving, ask, answer);
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
  const detail = answer.unkept === null ? "" : `; detail=${answer.unkept}`;
  const way = answer.cache === "bypass" ? "bypass" : forward + suffix;
  trace.headers.set("cache-status", `portico; fwd=${way}${detail}`);
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
