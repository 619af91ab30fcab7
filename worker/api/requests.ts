/** `/v1/requests/<id>`: what became of a request that took a ticket; kept for a day. */
import type { JobView } from "../../durable-objects/job-protocol.ts";
import { mayCall } from "../auth.ts";
import { callerWith } from "../caller/caller.ts";
import { config, type Env } from "../env.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { signedUrl } from "../results/signature.ts";
import { type Result, resultsOf } from "../results/result.ts";
import type { Trace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

const ID = /^[A-Za-z0-9_-]{1,128}$/;

/** Looks up by our id, or by the caller's own `X-Request-Id` (the latest one within the tenant). */
export async function getRequest(
  request: Request,
  env: Env,
  trace: Trace,
  base: string,
  id: string,
): Promise<Response | Refusal> {
  const caller = await callerWith("infer", { request, env, trace });
  if (isRefusal(caller)) return caller;
  const found = ID.test(id) ? await withTimeout(env.TENANT.getByName(caller.tenant).request(id)) : null;
  if (found === null) return refuse("not_found");
  const denied = mayCall(caller, found.service);
  if (denied !== null) return denied;
  const job = found.id.startsWith("job_") ? await withTimeout(env.JOB.getByName(found.id).view(caller.tenant)) : null;
  const became = job === null ? found : asJob(job);
  const results = await resultsOf(env, caller.tenant, became.results);
  return Response.json({
    id: found.id,
    service: found.service,
    state: became.state,
    status: became.status,
    waiting_on: became.on,
    queue_position: became.position,
    results: await Promise.all(results.map((result) => resultView(env, base, result))),
    created_at: new Date(found.at).toISOString(),
  });
}

/** The state of a job, from its Job object: the record of its admission does not follow the job. */
function asJob({ state, waiting }: JobView) {
  return {
    state: state.status,
    status: state.bill?.status ?? null,
    on: waiting?.on ?? null,
    position: waiting?.position ?? null,
    results: state.results.map(({ id }) => id),
  };
}

/** Result view as in jobs; the URL is made for this response. */
async function resultView(env: Env, base: string, { id, contentType, bytes, sha256 }: Result) {
  return { id, url: await signedUrl(config(env), base, id, Date.now()), content_type: contentType, bytes, sha256 };
}
