/** Service routes: the origin's own API, unified. Builds the ask from a request and returns the answer unchanged. */
import { answerAsk, counted } from "./answer.ts";
import type { CallContext } from "./call-context.ts";
import { type Ask, parseAsk } from "./ask.ts";
import { type Caller, mayCall } from "./auth.ts";
import { callerWith } from "./caller/caller.ts";
import { listed, type Target } from "./services/catalog.ts";
import type { ServiceRow } from "./db/queries.ts";
import { config } from "./env.ts";
import { preferenceOf } from "./jobs/prefer.ts";
import { type Refusal, isRefusal } from "./refusal.ts";
import { signedUrl } from "./results/signature.ts";

export interface Serving extends CallContext {
  service: ServiceRow;
  target: Target;
}

export async function serve(serving: Serving): Promise<Response | Refusal> {
  const { trace, service } = serving;
  trace.fields["service"] = service.id;
  const caller = await callerWith("infer", serving);
  if (isRefusal(caller)) return caller;
  const preference = preferenceOf(serving.request.headers);
  const ask = await askOf(serving, caller, preference !== null);
  if (isRefusal(ask)) return counted(serving, caller, service.id, ask);
  // A read is answered at once, whatever `Prefer` says.
  const shown = await answerAsk(serving, caller, ask, ask.as === "run" ? { preference } : {});
  if (isRefusal(shown)) return shown;
  await link(serving, shown.headers, shown.results);
  return new Response(shown.body, { status: shown.status, headers: shown.headers });
}

/** `later`: the body has to outlive the request. */
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
  const isRun = entry.as === "run";
  const named = isRun && request.method === "POST" && request.headers.has("idempotency-key");
  const asked = { tenant: caller.tenant, service, as: entry.as, ...target, later: later && isRun, named };
  return parseAsk(request, asked, place, Date.now());
}

/** Appends `Link` (RFC 8288) with the URL of each finished image or sound, signed for a day. */
export async function link({ env, base }: CallContext, headers: Headers, results: string[]): Promise<void> {
  const now = Date.now();
  for (const id of results) headers.append("link", `<${await signedUrl(config(env), base, id, now)}>; rel="enclosure"`);
}
