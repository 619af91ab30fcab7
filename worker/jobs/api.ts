/** `/v1/jobs`: create, get, list and cancel jobs. */
import { z } from "zod";
import { JOB_STATUSES, type JobStatus, type JobView as View } from "../../durable-objects/job-protocol.ts";
import { type Caller, mayCall } from "../auth.ts";
import { BUFFERED_BYTES_MAX, letGo, MIB } from "../body/body.ts";
import { callerWith } from "../caller/caller.ts";
import type { Env } from "../env.ts";
import { checkFields, jsonBody } from "../api/json-body.ts";
import { cursorOf, positionOf } from "../api/page.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { digits, Id } from "../api/schema-parts.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import type { CallContext } from "../call-context.ts";
import { whileAllowed } from "./allowed.ts";
import { draftOf, JobCreate } from "./draft.ts";
import type { Once } from "../once.ts";
import { createOnce } from "./create-once.ts";
import { withPresent } from "./present.ts";
import { jobBody } from "./job-body.ts";
import { submissionOf, submit, viewOf } from "./submit.ts";
import { jobView } from "./view.ts";

/** `depthMax`: code that walks an input later recurses once per nesting level. */
const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: 1_000, emptyIsObject: false };
/** Longest time that a response is held until the state changes, in seconds. */
const WAIT_S_MAX = 30;
const LIST_MAX = 100;
const LIST_DEFAULT = 20;
/** Most Backlog queries made to fill one page. More than one is needed when jobs change state in the meantime. */
const STRETCHES_MAX = 5;
/** Minimum `Retry-After` of a waiting job, in seconds. */
const LOOK_AGAIN_S = 1;

export async function createJob(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const json = await jobBody(context, caller);
  if (isRefusal(json)) return json;
  const { large } = json;
  const make = async (once: Once | null): Promise<string | Refusal> => {
    const checked = checkFields(JobCreate, json.value);
    if (isRefusal(checked)) return checked;
    const draft = await draftOf(context, caller, checked.body, large);
    if (isRefusal(draft)) return draft;
    try {
      const view = await submit(submissionOf(context, caller, once), draft);
      return isRefusal(view) ? view : view.spec.id;
    } finally {
      letGo(draft.ask.body);
    }
  };
  const show = async (id: string): Promise<Response | Refusal> => {
    const view = await viewOf(context.env, caller.tenant, id);
    return isRefusal(view) ? view : accepted(context, view);
  };
  try {
    return await createOnce(context, caller, large === null ? json.value : undefined, make, show);
  } finally {
    large?.body.letGo();
  }
}

/** The JSON body of a batch. */
export async function batchBody({ request }: CallContext): Promise<{ ok: true; value: unknown } | Refusal> {
  const json = await jsonBody(request, BODY);
  const isTooLarge = isRefusal(json) && json.reason === "body_too_large";
  return isTooLarge ? { ...json, facts: { batch_mib: BODY.bytesMax / MIB } } : json;
}

/** 202 with `Location`, and `Retry-After` from the estimated time to the result. */
export async function accepted(context: CallContext, view: View): Promise<Response> {
  const body = await jobView(context, view);
  const headers = {
    location: `/v1/jobs/${view.spec.id}`,
    "retry-after": String(Math.max(LOOK_AGAIN_S, Math.ceil(body.eta_s ?? LOOK_AGAIN_S))),
  };
  return Response.json(body, { status: 202, headers });
}

const JobId = /^job_[0-9A-Za-z]{1,64}$/;
export const WaitQuery = z.object({
  wait: digits(0, WAIT_S_MAX)
    .optional()
    .meta({ description: "Hold the answer until the state changes, for at most this many seconds." }),
});

export async function getJob(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const query = checkFields(WaitQuery, Object.fromEntries(new URL(context.request.url).searchParams));
  if (isRefusal(query)) return query;
  const view = await findOwnJob(context, caller, id);
  if (isRefusal(view)) return view;
  const waitMs = (query.body.wait ?? 0) * 1000;
  const { status } = view.state;
  if (waitMs === 0 || view.state.finishedAt !== null) return Response.json(await jobView(context, view));
  const changed = withTimeout(context.env.JOB.getByName(id).changed(status, waitMs), waitMs + 10_000);
  const held = await whileAllowed(context, changed);
  if (isRefusal(held)) return held;
  const later = await viewOf(context.env, caller.tenant, id);
  return isRefusal(later) ? later : Response.json(await jobView(context, later));
}

/** Returns the job if it belongs to the caller's tenant and the key may use its service. */
export async function findOwnJob({ env }: CallContext, caller: Caller, id: string): Promise<View | Refusal> {
  if (!JobId.test(id)) return refuse("not_found");
  const view = await viewOf(env, caller.tenant, id);
  if (isRefusal(view)) return view;
  return mayCall(caller, view.spec.service) ?? view;
}

export const ListQuery = z.object({
  status: z.enum(JOB_STATUSES).optional(),
  service: Id.optional(),
  limit: digits(1, LIST_MAX).optional(),
  cursor: z.string().max(200).optional(),
});

export async function listJobs(context: CallContext): Promise<Response | Refusal> {
  const { request } = context;
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const query = checkFields(ListQuery, Object.fromEntries(new URL(request.url).searchParams));
  if (isRefusal(query)) return query;
  const page = await pageOf(context, caller, query.body);
  if (isRefusal(page)) return page;
  const data = await Promise.all(page.views.map((view) => jobView(context, view)));
  return Response.json({ data, next_cursor: page.next });
}

/** Returns the jobs that the key may see, newest first, and the cursor of the next page. */
export async function pageOf(
  { env }: CallContext,
  caller: Caller,
  { status, service, limit = LIST_DEFAULT, cursor }: z.output<typeof ListQuery>,
): Promise<{ views: View[]; next: string | null } | Refusal> {
  const from = positionOf(cursor, z.tuple([z.int()]));
  if (isRefusal(from)) return from;
  let before = from.at?.[0] ?? null;
  const views: View[] = [];
  for (let stretch = 0; stretch < STRETCHES_MAX; stretch++) {
    const wanted = limit - views.length;
    const rows = await withTimeout(
      env.BACKLOG.getByName(caller.tenant).list({
        status: status ?? null,
        service: service ?? null,
        before,
        limit: wanted + 1,
      }),
    );
    const some = rows.slice(0, wanted);
    views.push(
      ...(await current(
        env,
        caller,
        some.map(({ id }) => id),
        status ?? null,
      )),
    );
    before = rows.length > wanted ? (some.at(-1)?.place ?? null) : null;
    if (before === null || views.length === limit) break;
  }
  return { views: await withPresent(env, views), next: before === null ? null : cursorOf([before]) };
}

/**
 * Reads the jobs from their own Job objects, so that one that has just changed is not listed under its former state.
 */
async function current(env: Env, caller: Caller, ids: string[], status: JobStatus | null): Promise<View[]> {
  const jobOf = (id: string): Promise<View | null> => withTimeout(env.JOB.getByName(id).view(caller.tenant));
  const views = await Promise.all(ids.map(jobOf));
  return views.filter(
    (view): view is View =>
      view !== null && (status === null || view.state.status === status) && mayCall(caller, view.spec.service) === null,
  );
}

export async function cancelJob(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const view = await canceled(context, caller, id);
  return isRefusal(view) ? view : Response.json(await jobView(context, view));
}

/** Cancels the job and returns it. 409 `job_finished` if it had already ended. */
export async function canceled(context: CallContext, caller: Caller, id: string): Promise<View | Refusal> {
  const { env } = context;
  const view = await findOwnJob(context, caller, id);
  if (isRefusal(view)) return view;
  const before = await withTimeout(env.JOB.getByName(id).cancel(caller.tenant));
  if (before === null) return refuse("not_found");
  if (before !== "queued" && before !== "running") return refuse("job_finished");
  return viewOf(env, caller.tenant, id);
}
