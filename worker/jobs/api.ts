/** `/v1/jobs` and `/v1/batches`: hand in, look, list, cancel, follow. */
import { z } from "zod";
import { JOB_STATUSES, type JobStatus, type JobView as View } from "../../durable-objects/job-protocol.ts";
import { type Ask, parseAsk } from "../ask.ts";
import { type Caller, clientAddress, mayCall } from "../auth.ts";
import { BUFFERED_BYTES_MAX, letGo } from "../body.ts";
import { callerWith } from "../caller.ts";
import { catalog, listed, target } from "../catalog.ts";
import type { ServiceRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { checkedBody, checkFields, invalid } from "../json-body.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { Id } from "../schema-parts.ts";
import type { Trace } from "../trace.ts";
import { answered } from "../until.ts";
import { type Draft, type Handing, submit, viewOf } from "./submit.ts";
import { jobView } from "./view.ts";
import { Webhook, webhookOf } from "./webhook.ts";

const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: null, emptyIsObject: false };
const WEEK_S = 604_800;
/** Longest that one answer is held until the state changes, s. */
const WAIT_S_MAX = 30;
const LIST_MAX = 100;
const LIST_DEFAULT = 20;
/** Stretches of the list that are looked through for one page, when jobs change state meanwhile. */
const STRETCHES_MAX = 5;
/** When a job that waits is worth another look, s. */
const LOOK_AGAIN_S = 1;

export const JobCreate = z
  .strictObject({
    service: Id,
    path: z
      .string()
      .max(512)
      .regex(/^(?!\/)[^?#]*$/, "a path below the service's route, without a query")
      .optional()
      .meta({ description: "Below the route; default: the first listed `run` path without `*`." }),
    input: z.unknown().refine((input) => input !== undefined, "is needed"),
    webhook: Webhook.optional(),
    priority: z.enum(["high", "normal", "low"]).optional(),
    start_deadline_s: z
      .number()
      .positive()
      .max(WEEK_S)
      .optional()
      .meta({ description: "Not started by then: failed." }),
  })
  .meta({ id: "JobCreate" });
export type JobCreate = z.output<typeof JobCreate>;

export interface Asking {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
}

export async function createJob(asking: Asking): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", asking);
  if (isRefusal(caller)) return caller;
  const checked = await checkedBody(asking.request, JobCreate, BODY);
  if (isRefusal(checked)) return checked;
  const draft = await draftOf(asking, caller, checked.body);
  if (isRefusal(draft)) return draft;
  try {
    const view = await submit(handing(asking, caller), draft);
    return isRefusal(view) ? view : accepted(asking, view);
  } finally {
    letGo(draft.ask.body);
  }
}

export function handing({ request, env, trace, base }: Asking, caller: Caller): Handing {
  return { env, trace, caller, base, clientAddress: clientAddress(request, env) };
}

/** What one job of the call asks for, checked as the same request on the service's own route would be. */
export async function draftOf(asking: Asking, caller: Caller, body: JobCreate): Promise<Draft | Refusal> {
  const { env } = asking;
  const service = (await catalog(env)).find(({ id }) => id === body.service);
  if (service === undefined) return refuse("not_found");
  const denied = mayCall(caller, service.id);
  if (denied !== null) return denied;
  const path = body.path ?? firstRun(service);
  if (path === null) return invalid("path", "is needed: this service lists no plain path");
  const webhook = body.webhook === undefined ? null : webhookOf(env, body.webhook);
  if (isRefusal(webhook)) return webhook;
  const ask = await askOf(asking, caller, service, path, body.input);
  if (isRefusal(ask)) return ask;
  const { start_deadline_s: deadline, priority = "normal" } = body;
  const startDeadlineAt = deadline === undefined ? null : Date.now() + deadline * 1000;
  return { ask, priority, startDeadlineAt, webhook };
}

function firstRun({ config }: ServiceRow): string | null {
  const isPlain = ({ as, path, method }: ServiceRow["config"]["paths"][number]): boolean =>
    as === "run" && !path.includes("*") && (method === "POST" || method === "*");
  return config.paths.find(isPlain)?.path ?? null;
}

async function askOf(
  { env, ctx, request }: Asking,
  caller: Caller,
  service: ServiceRow,
  path: string,
  input: unknown,
): Promise<Ask | Refusal> {
  const at = target(`http://portico${service.route}${path}`);
  if (isRefusal(at)) return at;
  const entry = listed(service, "POST", at.path);
  if (isRefusal(entry)) return entry;
  if (entry.as !== "run") return invalid("path", "is read at once: it takes no slot, and is no job");
  const headers = { "content-type": "application/json", accept: "*/*" };
  const inner = new Request(request.url, { method: "POST", headers, body: JSON.stringify(input) });
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const ask = await parseAsk(
    inner,
    { tenant: caller.tenant, service, as: "run", ...at, later: true },
    place,
    Date.now(),
  );
  if (!isRefusal(ask) || ask.reason !== "invalid_field" || ask.param === null) return ask;
  return { ...ask, param: `input.${ask.param}` };
}

/** 202: taken; where it is looked at, and when that is worth while. */
export async function accepted(asking: Asking, view: View): Promise<Response> {
  const body = await jobView(asking, view);
  const headers = {
    location: `/v1/jobs/${view.spec.id}`,
    "retry-after": String(Math.max(LOOK_AGAIN_S, Math.ceil(body.eta_s ?? LOOK_AGAIN_S))),
  };
  return Response.json(body, { status: 202, headers });
}

const JobId = /^job_[0-9A-Za-z]{1,64}$/;
const WaitQuery = z.object({
  wait: z.coerce.number().min(0).max(WAIT_S_MAX).optional().meta({ description: "Held until the state changes." }),
});

export async function getJob(asking: Asking, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", asking);
  if (isRefusal(caller)) return caller;
  const query = checkFields(WaitQuery, Object.fromEntries(new URL(asking.request.url).searchParams));
  if (isRefusal(query)) return query;
  const view = await seen(asking, caller, id);
  if (isRefusal(view)) return view;
  const waitMs = (query.body.wait ?? 0) * 1000;
  const { status } = view.state;
  if (waitMs === 0 || view.state.finishedAt !== null) return Response.json(await jobView(asking, view));
  await answered(asking.env.JOB.getByName(id).changed(status, waitMs), waitMs + 10_000);
  const later = await viewOf(asking.env, caller.tenant, id);
  return isRefusal(later) ? later : Response.json(await jobView(asking, later));
}

/** The job, if it is the caller's, and of a service that the key may use. */
export async function seen({ env }: Asking, caller: Caller, id: string): Promise<View | Refusal> {
  if (!JobId.test(id)) return refuse("not_found");
  const view = await viewOf(env, caller.tenant, id);
  if (isRefusal(view)) return view;
  return mayCall(caller, view.spec.service) ?? view;
}

export const ListQuery = z.object({
  status: z.enum(JOB_STATUSES).optional(),
  service: Id.optional(),
  limit: z.coerce.number().int().min(1).max(LIST_MAX).optional(),
  cursor: z.string().max(200).optional(),
});

export async function listJobs(asking: Asking): Promise<Response | Refusal> {
  const { request, env } = asking;
  const caller = await callerWith("jobs", asking);
  if (isRefusal(caller)) return caller;
  const query = checkFields(ListQuery, Object.fromEntries(new URL(request.url).searchParams));
  if (isRefusal(query)) return query;
  const { status = null, service = null, limit = LIST_DEFAULT, cursor } = query.body;
  let before = cursor === undefined ? null : Number(atobOr(cursor));
  if (before !== null && !Number.isSafeInteger(before)) return invalid("cursor", "is none that this list gave");
  const views: View[] = [];
  for (let stretch = 0; stretch < STRETCHES_MAX; stretch++) {
    const wanted = limit - views.length;
    const rows = await answered(
      env.BACKLOG.getByName(caller.tenant).list({ status, service, before, limit: wanted + 1 }),
    );
    const some = rows.slice(0, wanted);
    views.push(
      ...(await current(
        env,
        caller,
        some.map(({ id }) => id),
        status,
      )),
    );
    before = rows.length > wanted ? (some.at(-1)?.place ?? null) : null;
    if (before === null || views.length === limit) break;
  }
  const data = await Promise.all(views.map((view) => jobView(asking, view)));
  return Response.json({ data, next_cursor: before === null ? null : btoa(String(before)) });
}

/** What the jobs themselves say: one that has just changed is not shown as what it was. */
async function current(env: Env, caller: Caller, ids: string[], status: JobStatus | null): Promise<View[]> {
  const views = await Promise.all(ids.map((id) => viewOf(env, caller.tenant, id)));
  return views.filter(
    (view): view is View =>
      !isRefusal(view) &&
      (status === null || view.state.status === status) &&
      mayCall(caller, view.spec.service) === null,
  );
}

function atobOr(text: string): string {
  try {
    return atob(text);
  } catch {
    return "";
  }
}

export async function cancelJob(asking: Asking, id: string): Promise<Response | Refusal> {
  const { env } = asking;
  const caller = await callerWith("jobs", asking);
  if (isRefusal(caller)) return caller;
  const view = await seen(asking, caller, id);
  if (isRefusal(view)) return view;
  const before = await answered(env.JOB.getByName(id).cancel(caller.tenant));
  if (before === null) return refuse("not_found");
  if (before !== "queued" && before !== "running") return refuse("job_finished");
  // One that no Workflow holds yet has nobody else to say that it costs nothing.
  if (before === "queued")
    await answered(env.TENANT.getByName(caller.tenant).record(id, "canceled", null, [], "nothing"));
  const after = await viewOf(env, caller.tenant, id);
  return isRefusal(after) ? after : Response.json(await jobView(asking, after));
}
