/** `/v1/requests/<id>`: what became of a request that took a ticket, for a day. */
import { authenticate, mayUse } from "./auth.ts";
import { resultsByIds, type ResultRow } from "./db/queries.ts";
import { config, type Env } from "./env.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { signedUrl } from "./signature.ts";
import { timed, type Trace } from "./trace.ts";

const ID = /^[A-Za-z0-9_-]{1,128}$/;

/** By our id, or by the caller's own X-Request-Id (the latest of that name within the tenant). */
export async function getRequest(request: Request, env: Env, trace: Trace, base: string, id: string): Promise<Response | Refusal> {
  const caller = await timed(trace, "auth", () => authenticate(request, env));
  if (isRefusal(caller)) return caller;
  const denied = mayUse(caller, "infer");
  if (denied !== null) return denied;
  const found = ID.test(id) ? await env.TENANT.getByName(caller.tenant).request(id) : null;
  if (found === null) return refuse("not_found");
  const rows = await resultsByIds(env, caller.tenant, found.results);
  const byId = new Map(rows.map((row) => [row.id, row]));
  const results = found.results.map((result) => byId.get(result)).filter((row) => row !== undefined);
  return Response.json({
    id: found.id,
    service: found.service,
    state: found.state,
    status: found.status,
    results: await Promise.all(results.map((row) => resultView(env, base, row))),
    created_at: new Date(found.at).toISOString(),
  });
}

/** A result as jobs and requests show it; its URL is made for this answer. */
export async function resultView(env: Env, base: string, row: ResultRow) {
  const url = await signedUrl(config(env), base, row.id, Date.now());
  return { id: row.id, url, content_type: row.contentType, bytes: row.bytes, sha256: row.sha256 };
}
