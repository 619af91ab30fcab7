/**
 * Submits jobs. Takes rate tokens and quota, stores the inputs, reserves places in the Backlog, creates the Job
 * objects, settles the idempotency key, and last confirms the jobs in the Backlog (`stand`). If a submission is cut off
 * before it is confirmed, the Backlog forgets its jobs; its caller has received no answer.
 */
import type {
  BacklogLimits,
  JobInput,
  JobSpec,
  JobView,
  JobWebhook,
  NewBatch,
  NewJob,
} from "../../durable-objects/job-protocol.ts";
import type { Priority } from "../../durable-objects/pool-protocol.ts";
import type { Ask } from "../ask.ts";
import { type Caller, clientAddress } from "../auth.ts";
import type { Body } from "../body/body.ts";
import type { Env } from "../env.ts";
import { randomText } from "../caller/keys.ts";
import { admit } from "../limits.ts";
import type { CallContext } from "../call-context.ts";
import type { Once } from "../once.ts";
import { forwardable } from "../run/headers.ts";
import { countsOf } from "../caller/price.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { limitsIn } from "../caller/tenant-limits.ts";
import { withPresent } from "./present.ts";
import type { Trace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

const ID_LENGTH = 24;
/** Inputs up to this size are stored with the job, larger ones in R2. */
const INLINE_BYTES_MAX = 64 * 1024;
/** Headers for Portico itself that are kept for the run. */
const OUR_HEADERS = ["cache-control", "x-result-ttl", "x-result-visibility"];
/** Longest JSON text of an input that is kept to be shown again. */
const ASKED_LENGTH_MAX = 32 * 1024;
/** Job objects created concurrently. */
const MADE_AT_ONCE = 50;
/** `Retry-After` of a submission beyond `jobs_waiting`. */
const RETRY_AFTER_MS = 5_000;
/** Timeout for storing an input, which may be large. */
const LAYING_MS_MAX = 60_000;
/** `Retry-After` while the submission under the same idempotency key is still in progress. */
const IN_FLIGHT_MS = 1_000;

export interface Submission {
  env: Env;
  trace: Trace;
  caller: Caller;
  base: string;
  clientAddress: string | null;
  /** The idempotency key of the submission, if any. */
  once: Once | null;
}

export function submissionOf(
  { request, env, trace, base }: CallContext,
  caller: Caller,
  once: Once | null,
): Submission {
  return { env, trace, caller, base, clientAddress: clientAddress(request, env), once };
}

/** A job to be submitted; it has no id yet. */
export interface Draft {
  ask: Ask;
  priority: Priority;
  startDeadlineAt: number | null;
  webhook: JobWebhook | null;
  /** The input as given in a dialect, kept to be shown again. */
  asked?: unknown;
  /** The job is not retried. */
  retries?: false;
}

export const newJobId = (): string => `job_${randomText(ID_LENGTH)}`;
export const newBatchId = (): string => `bat_${randomText(ID_LENGTH)}`;

/** Submits one job and returns its view. On a refusal, what was charged for it is given back. */
export async function submit(submission: Submission, draft: Draft): Promise<JobView | Refusal> {
  const { env, caller } = submission;
  const id = newJobId();
  const limited = await admit(env, caller, submission.trace, draft.ask, null, id);
  if (limited !== null) return limited;
  const made = await commitJobs(submission, null, [id], async () => [await specOf(submission, draft, id, null)]);
  return isRefusal(made) ? made : viewOf(env, caller.tenant, id);
}

/** Submits jobs that were admitted: either all of them are confirmed, or none is and what they cost is given back. */
export async function commitJobs(
  submission: Submission,
  batch: NewBatch | null,
  ids: string[],
  specsOf: () => Promise<JobSpec[]>,
): Promise<JobSpec[] | Refusal> {
  const { env, caller } = submission;
  const backlog = env.BACKLOG.getByName(caller.tenant);
  try {
    const specs = await specsOf();
    const refused = await reserve(submission, specs, batch);
    if (refused !== null) {
      await dropInputs(
        env,
        specs.filter(({ input }) => input.kind === "r2").map(({ id }) => id),
      );
      await giveBackAll(env, caller.tenant, ids);
      return refused;
    }
    await makeAll(env, specs);
    // Settled before the jobs are confirmed: a caller whose connection is cut after this gets these jobs when it
    // retries, and makes no others.
    const made = batch === null ? { kind: "job" as const, id: ids[0] ?? "" } : { kind: "batch" as const, id: batch.id };
    await submission.once?.settle(made, Math.max(...specs.map(({ keepMs }) => keepMs)));
    if (!(await withTimeout(backlog.stand(ids)))) throw new Error("the submission took too long");
    return specs;
  } catch (error) {
    // It may be unknown whether the jobs were confirmed. Confirmed jobs run, and settle what they cost themselves.
    await withTimeout(backlog.release(ids)).catch(() => undefined);
    const stands = await Promise.all(ids.map((id) => withTimeout(backlog.stands(id)).catch(() => true)));
    const gone = ids.filter((_, i) => stands[i] !== true);
    // Deletes inputs only of jobs that the Backlog does not know. Any other Job asks the Backlog itself, and deletes
    // its own input if it was never confirmed.
    await dropInputs(
      env,
      ids.filter((_, i) => stands[i] === null),
    );
    await giveBackAll(env, caller.tenant, gone);
    throw error;
  }
}

/** Deletes the inputs, where there are any. The hourly sweep removes what this leaves behind. */
async function dropInputs(env: Env, ids: string[]): Promise<void> {
  try {
    await withTimeout(env.RESULTS.delete(ids.map(inputKey)));
  } catch (error) {
    console.warn(JSON.stringify({ event: "inputs_not_deleted", jobs: ids, error: String(error) }));
  }
}

/** Reserves places in the Backlog for all jobs, or for none. */
async function reserve({ env, caller }: Submission, specs: JobSpec[], batch: NewBatch | null): Promise<Refusal | null> {
  const limits: BacklogLimits = {
    waiting: caller.limits.jobs_waiting,
    concurrent: Object.fromEntries(specs.map(({ service }) => [service, limitsIn(caller.limits, service).concurrent])),
  };
  const reply = await withTimeout(env.BACKLOG.getByName(caller.tenant).reserve(specs.map(newJob), batch, limits));
  if (reply.ok) return null;
  return refuse("concurrency", {
    facts: { jobs: reply.waiting, max: reply.max },
    retryAfterMs: RETRY_AFTER_MS,
  });
}

function newJob({ id, service, priority, createdAt, startDeadlineAt, keepMs }: JobSpec): NewJob {
  return { id, service, priority, createdAt, startDeadlineAt, keepMs };
}

/** Creates the Job objects, a limited number at a time. */
async function makeAll(env: Env, specs: JobSpec[]): Promise<void> {
  for (let i = 0; i < specs.length; i += MADE_AT_ONCE)
    await Promise.all(specs.slice(i, i + MADE_AT_ONCE).map((spec) => make(env, spec)));
}

async function make(env: Env, spec: JobSpec): Promise<void> {
  await withTimeout(env.JOB.getByName(spec.id).create(spec));
}

/**
 * State of the job or batch that an idempotency key names. Null: it is confirmed. A refusal: its submission is in
 * progress or was cut off (decided within a minute). `gone`: it does not exist (any more).
 */
export async function submissionState(
  { env }: CallContext,
  { tenant }: Caller,
  id: string,
): Promise<Refusal | "gone" | null> {
  const stands = await withTimeout(env.BACKLOG.getByName(tenant).stands(id));
  if (stands === null) return "gone";
  return stands ? null : refuse("idempotency_in_flight", { retryAfterMs: IN_FLIGHT_MS });
}

/** Returns the job's current view, without results that no longer exist. */
export async function viewOf(env: Env, tenant: string, id: string): Promise<JobView | Refusal> {
  const view = await withTimeout(env.JOB.getByName(id).view(tenant));
  const [present] = view === null ? [] : await withPresent(env, [view]);
  return present ?? refuse("not_found");
}

/** Gives back the tokens and quota of jobs that were not accepted. */
async function giveBackAll(env: Env, tenant: string, ids: string[]): Promise<void> {
  const stub = env.TENANT.getByName(tenant);
  await Promise.all(ids.map((id) => withTimeout(stub.record(id, "failed", null, [], "nothing"))));
}

/** Builds the job's spec and stores its input. */
export async function specOf(submission: Submission, draft: Draft, id: string, batch: string | null): Promise<JobSpec> {
  const { env, caller, base } = submission;
  const { ask, priority, startDeadlineAt, webhook, retries } = draft;
  return {
    id,
    tenant: caller.tenant,
    key: caller.key,
    service: ask.service.id,
    priority,
    method: ask.method,
    path: ask.path,
    query: ask.query,
    headers: headersOf(ask.headers),
    input: await layAside(env, ask.body, id),
    createdAt: Date.now(),
    costMilli: countsOf(ask).costMilli,
    startDeadlineAt,
    batch,
    webhook,
    base,
    clientAddress: submission.clientAddress,
    keepMs: ask.delivery.lifeMs,
    ...(draft.asked === undefined ? {} : { asked: shownAgain(draft.asked) }),
    ...(ask.resultsAt === undefined ? {} : { resultsAt: ask.resultsAt }),
    ...(retries === undefined ? {} : { retries }),
  };
}

function shownAgain(asked: unknown): string | null {
  const text = JSON.stringify(asked);
  return text.length > ASKED_LENGTH_MAX ? null : text;
}

/** Keeps the headers that a run needs: those that its origin may get, and those for Portico. */
function headersOf(headers: Headers): Record<string, string> {
  const ours = OUR_HEADERS.flatMap((name) => (headers.has(name) ? [[name, headers.get(name) ?? ""]] : []));
  return Object.fromEntries([...forwardable(headers), ...ours]) as Record<string, string>;
}

/** Prefix of inputs in R2: `jobs/<id>/input`. */
export const JOBS = "jobs/";
const inputKey = (id: string): string => `${JOBS}${id}/input`;

async function layAside(env: Env, body: Body, id: string): Promise<JobInput> {
  if (body.kind === "none") return { kind: "none" };
  if (body.kind === "bytes" && body.bytes.byteLength <= INLINE_BYTES_MAX) return { kind: "inline", bytes: body.bytes };
  const key = inputKey(id);
  if (body.kind === "bytes") {
    await withTimeout(env.RESULTS.put(key, body.bytes), LAYING_MS_MAX);
    return { kind: "r2", key, bytes: body.bytes.byteLength };
  }
  if (body.kind === "stream") throw new Error("a job's input was not kept");
  const sending = await body.send(() => undefined);
  if (sending === null) throw new Error("a job's input was lost");
  await withTimeout(env.RESULTS.put(key, sending.stream), LAYING_MS_MAX).finally(sending.stop);
  return { kind: "r2", key, bytes: body.bytes };
}
