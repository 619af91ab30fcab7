/** `/v1/batches`: up to 1,000 jobs under one id, accepted all or none. */
import { z } from "zod";
import { type BatchView as View, isOver, JOB_STATUSES, type JobSpec } from "../../durable-objects/job-protocol.ts";
import type { Caller } from "../auth.ts";
import { letGo } from "../body/body.ts";
import { callerWith } from "../caller/caller.ts";
import { checkFields } from "../api/json-body.ts";
import { admitBatch } from "../limits.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { iso, isoOrNull, Time } from "../api/time.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import type { CallContext } from "../call-context.ts";
import { batchBody } from "./api.ts";
import { draftOf, JobCreate } from "./draft.ts";
import type { Once } from "../once.ts";
import { createOnce } from "./create-once.ts";
import { type Draft, commitJobs, type Submission, submissionOf, newBatchId, newJobId, specOf } from "./submit.ts";
import { Webhook, webhookOf } from "./webhook.ts";

export const JOBS_MAX = 1_000;
/** Jobs that are checked, or whose inputs are stored, concurrently. */
const AT_ONCE = 20;
/** `Retry-After` of a new batch, in seconds. */
const LOOK_AGAIN_S = 5;
/** `Retry-After` of a batch that is larger than the limit: it fits only after an operator has raised the limit. */
const TOO_LARGE_MS = 86_400_000;
const BatchId = /^bat_[0-9A-Za-z]{1,64}$/;

export const BatchCreate = z
  .strictObject({
    jobs: z.array(JobCreate).min(1).max(JOBS_MAX),
    webhook: Webhook.optional().meta({ description: "Called once, when the last job has ended." }),
  })
  .meta({ id: "BatchCreate" });

export const BatchView = z
  .object({
    id: z.string(),
    status: z.enum(["running", "completed"]),
    progress: z.number().meta({ description: "Share of the batch's jobs that have ended, 0 to 1." }),
    counts: z.record(z.enum(JOB_STATUSES), z.int()),
    jobs: z.array(z.string()),
    created_at: Time,
    finished_at: Time.nullable(),
  })
  .meta({ id: "Batch" });

export async function createBatch(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const json = await batchBody(context);
  if (isRefusal(json)) return json;
  const make = async (once: Once | null): Promise<string | Refusal> => {
    const checked = checkFields(BatchCreate, json.value);
    if (isRefusal(checked)) return checked;
    const { jobs, webhook: told } = checked.body;
    const { jobs_waiting: max } = caller.limits;
    if (jobs.length > max) {
      const facts = { batch: jobs.length, max };
      return refuse("concurrency", { facts, final: true, retryAfterMs: TOO_LARGE_MS });
    }
    const webhook = told === undefined ? null : webhookOf(context.env, told);
    if (isRefusal(webhook)) return webhook;
    const drafts = await draftsOf(context, caller, jobs);
    if (isRefusal(drafts)) return drafts;
    try {
      return await submitAll(submissionOf(context, caller, once), drafts, webhook);
    } finally {
      for (const { ask } of drafts) letGo(ask.body);
    }
  };
  return createOnce(context, caller, json.value, make, (id) => accepted(context, caller, id));
}

/** Returns all drafts, or the refusal of the first invalid job with its index in `param`. */
async function draftsOf(context: CallContext, caller: Caller, jobs: JobCreate[]): Promise<Draft[] | Refusal> {
  const drafts: Draft[] = [];
  for (let i = 0; i < jobs.length; i += AT_ONCE) {
    const some = await Promise.all(jobs.slice(i, i + AT_ONCE).map((job) => draftOf(context, caller, job)));
    drafts.push(...some.filter((draft): draft is Draft => !isRefusal(draft)));
    const wrong = some.findIndex(isRefusal);
    const refusal = some[wrong];
    if (!isRefusal(refusal)) continue;
    for (const { ask } of drafts) letGo(ask.body);
    return { ...refusal, param: `jobs.${i + wrong}${refusal.param === null ? "" : `.${refusal.param}`}` };
  }
  return drafts;
}

async function submitAll(submission: Submission, drafts: Draft[], webhook: View["webhook"]): Promise<string | Refusal> {
  const { env, trace, caller } = submission;
  const id = newBatchId();
  const named = drafts.map((draft) => ({ id: newJobId(), draft }));
  const limited = await admitBatch(
    env,
    caller,
    trace,
    named.map(({ id: job, draft }) => ({ id: job, ask: draft.ask })),
  );
  if (limited !== null) return limited;
  const specs = await commitJobs(
    submission,
    { id, tenant: caller.tenant, webhook },
    named.map(({ id: job }) => job),
    () => specsOf(submission, named, id),
  );
  return isRefusal(specs) ? specs : id;
}

async function specsOf(
  submission: Submission,
  named: { id: string; draft: Draft }[],
  batch: string,
): Promise<JobSpec[]> {
  const specs: JobSpec[] = [];
  for (let i = 0; i < named.length; i += AT_ONCE) {
    const some = named.slice(i, i + AT_ONCE);
    specs.push(...(await Promise.all(some.map((one) => specOf(submission, one.draft, one.id, batch)))));
  }
  return specs;
}

async function accepted(context: CallContext, caller: Caller, id: string): Promise<Response | Refusal> {
  const batch = await viewOf(context, caller, id);
  if (isRefusal(batch)) return batch;
  const headers = { location: `/v1/batches/${id}`, "retry-after": String(LOOK_AGAIN_S) };
  return Response.json(batchView(batch), { status: 202, headers });
}

export async function getBatch(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const batch = BatchId.test(id) ? await viewOf(context, caller, id) : refuse("not_found");
  return isRefusal(batch) ? batch : Response.json(batchView(batch));
}

async function viewOf({ env }: CallContext, caller: Caller, id: string): Promise<View | Refusal> {
  return (await withTimeout(env.BACKLOG.getByName(caller.tenant).batch(id))) ?? refuse("not_found");
}

function batchView({ id, createdAt, finishedAt, counts, jobs }: View): z.infer<typeof BatchView> {
  const over = JOB_STATUSES.filter(isOver).reduce((sum, status) => sum + counts[status], 0);
  return {
    id,
    status: finishedAt === null ? "running" : "completed",
    progress: Math.floor((100 * over) / jobs.length) / 100,
    counts,
    jobs,
    created_at: iso(createdAt),
    finished_at: isoOrNull(finishedAt),
  };
}
