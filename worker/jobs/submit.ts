/**
 * Handing a job in: room for it (rate, quota, waiting jobs), its input laid aside, its Job object made, the name that it
 * was given settled; only then it stands. One that is cut off in between is forgotten by its Backlog, and was never
 * answered for.
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
import type { Mouth } from "../mouth.ts";
import type { Once } from "../once.ts";
import { sendable } from "../run/headers.ts";
import { countsOf } from "../caller/price.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { limitsIn } from "../caller/tenant-limits.ts";
import type { Trace } from "../trace.ts";
import { answered } from "../../durable-objects/answer-protocol.ts";

const ID_LENGTH = 24;
/** Inputs up to this lie with the job, larger ones in R2. */
const INLINE_BYTES_MAX = 64 * 1024;
/** Said to us, and minded when the job runs. */
const OUR_HEADERS = ["cache-control", "x-result-ttl", "x-result-visibility"];
/** JSON text of an input that is shown again. */
const ASKED_LENGTH_MAX = 32 * 1024;
/** Job objects made at the same time. */
const MADE_AT_ONCE = 50;
/** Waiting jobs begin to run one after the other: those beyond the bound may try again after so long. */
const RETRY_AFTER_MS = 5_000;
/** Longest that an input takes to be laid aside, ms: it may be large. */
const LAYING_MS_MAX = 60_000;
/** When a submission that goes on is worth another look. */
const IN_FLIGHT_MS = 1_000;

export interface Handing {
  env: Env;
  trace: Trace;
  caller: Caller;
  base: string;
  clientAddress: string | null;
  /** The name under which it is handed in, if any. */
  once: Once | null;
}

export function handingOf({ request, env, trace, base }: Mouth, caller: Caller, once: Once | null): Handing {
  return { env, trace, caller, base, clientAddress: clientAddress(request, env), once };
}

/** One job to be, before it has an id. */
export interface Draft {
  ask: Ask;
  priority: Priority;
  startDeadlineAt: number | null;
  webhook: JobWebhook | null;
  /** What a dialect was given as input, to be shown again. */
  asked?: unknown;
  /** One try is enough. */
  retries?: false;
}

export const newJobId = (): string => `job_${randomText(ID_LENGTH)}`;
export const newBatchId = (): string => `bat_${randomText(ID_LENGTH)}`;

/** The job, waiting; or why it was not taken. What it asked for is given back then. */
export async function submit(handing: Handing, draft: Draft): Promise<JobView | Refusal> {
  const { env, caller } = handing;
  const id = newJobId();
  const limited = await admit(env, caller, handing.trace, draft.ask, null, id);
  if (limited !== null) return limited;
  const made = await handIn(handing, null, [id], async () => [await specOf(handing, draft, id, null)]);
  return isRefusal(made) ? made : viewOf(env, caller.tenant, id);
}

/** Of jobs that were admitted: all of them stand in the end, or none, and what they cost is given back. */
export async function handIn(
  handing: Handing,
  batch: NewBatch | null,
  ids: string[],
  specsOf: () => Promise<JobSpec[]>,
): Promise<JobSpec[] | Refusal> {
  const { env, caller } = handing;
  const backlog = env.BACKLOG.getByName(caller.tenant);
  try {
    const specs = await specsOf();
    const refused = await reserve(handing, specs, batch);
    if (refused !== null) {
      await dropInputs(
        env,
        specs.filter(({ input }) => input.kind === "r2").map(({ id }) => id),
      );
      await giveBackAll(env, caller.tenant, ids);
      return refused;
    }
    await makeAll(env, specs);
    // Before it stands: who was cut off after that is told of it, and makes no other.
    const made = batch === null ? { kind: "job" as const, id: ids[0] ?? "" } : { kind: "batch" as const, id: batch.id };
    await handing.once?.settle(made, Math.max(...specs.map(({ keepMs }) => keepMs)));
    if (!(await answered(backlog.stand(ids)))) throw new Error("the submission took too long");
    return specs;
  } catch (error) {
    // Whether they stand may not be known: those that do are run, and settle what they cost themselves.
    await answered(backlog.release(ids)).catch(() => undefined);
    const stands = await Promise.all(ids.map((id) => answered(backlog.stands(id)).catch(() => true)));
    const gone = ids.filter((_, i) => stands[i] !== true);
    // What might stand yet asks after itself, and takes its input along.
    await dropInputs(
      env,
      ids.filter((_, i) => stands[i] === null),
    );
    await giveBackAll(env, caller.tenant, gone);
    throw error;
  }
}

/** Laid aside or not; those that this leaves the hourly sweep takes away. */
async function dropInputs(env: Env, ids: string[]): Promise<void> {
  try {
    await answered(env.RESULTS.delete(ids.map(inputKey)));
  } catch (error) {
    console.warn(JSON.stringify({ event: "inputs_left", jobs: ids, error: String(error) }));
  }
}

/** Room for waiting jobs, all or none. */
async function reserve({ env, caller }: Handing, specs: JobSpec[], batch: NewBatch | null): Promise<Refusal | null> {
  const limits: BacklogLimits = {
    waiting: caller.limits.jobs_waiting,
    concurrent: Object.fromEntries(specs.map(({ service }) => [service, limitsIn(caller.limits, service).concurrent])),
  };
  const reply = await answered(env.BACKLOG.getByName(caller.tenant).reserve(specs.map(newJob), batch, limits));
  if (reply.ok) return null;
  return refuse("concurrency", {
    facts: { waiting: reply.waiting, max: reply.max },
    retryAfterMs: RETRY_AFTER_MS,
  });
}

function newJob({ id, service, priority, createdAt, startDeadlineAt, keepMs }: JobSpec): NewJob {
  return { id, service, priority, createdAt, startDeadlineAt, keepMs };
}

/** Makes the Job objects, some at a time. */
async function makeAll(env: Env, specs: JobSpec[]): Promise<void> {
  for (let i = 0; i < specs.length; i += MADE_AT_ONCE)
    await Promise.all(specs.slice(i, i + MADE_AT_ONCE).map((spec) => make(env, spec)));
}

async function make(env: Env, spec: JobSpec): Promise<void> {
  await answered(env.JOB.getByName(spec.id).create(spec));
}

/**
 * What was handed in under a name before: null: it stands. A refusal: its submission goes on, or was cut off, which is
 * known within a minute. `gone`: there is no such thing (any more).
 */
export async function absence({ env }: Mouth, { tenant }: Caller, id: string): Promise<Refusal | "gone" | null> {
  const stands = await answered(env.BACKLOG.getByName(tenant).stands(id));
  if (stands === null) return "gone";
  return stands ? null : refuse("idempotency_in_flight", { retryAfterMs: IN_FLIGHT_MS });
}

/** The job as it is now. */
export async function viewOf(env: Env, tenant: string, id: string): Promise<JobView | Refusal> {
  return (await answered(env.JOB.getByName(id).view(tenant))) ?? refuse("not_found");
}

/** Tokens and quota of jobs that were not taken. */
async function giveBackAll(env: Env, tenant: string, ids: string[]): Promise<void> {
  const stub = env.TENANT.getByName(tenant);
  await Promise.all(ids.map((id) => answered(stub.record(id, "failed", null, [], "nothing"))));
}

/** What the job is, with its input laid aside. */
export async function specOf(handing: Handing, draft: Draft, id: string, batch: string | null): Promise<JobSpec> {
  const { env, caller, base } = handing;
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
    clientAddress: handing.clientAddress,
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

/** What a run of the job has to know again: what its origin may get, and what is for us. */
function headersOf(headers: Headers): Record<string, string> {
  const ours = OUR_HEADERS.flatMap((name) => (headers.has(name) ? [[name, headers.get(name) ?? ""]] : []));
  return Object.fromEntries([...sendable(headers), ...ours]) as Record<string, string>;
}

/** Where inputs lie in R2: `jobs/<id>/input`. */
export const JOBS = "jobs/";
const inputKey = (id: string): string => `${JOBS}${id}/input`;

async function layAside(env: Env, body: Body, id: string): Promise<JobInput> {
  if (body.kind === "none") return { kind: "none" };
  if (body.kind === "bytes" && body.bytes.byteLength <= INLINE_BYTES_MAX) return { kind: "inline", bytes: body.bytes };
  const key = inputKey(id);
  if (body.kind === "bytes") {
    await answered(env.RESULTS.put(key, body.bytes), LAYING_MS_MAX);
    return { kind: "r2", key, bytes: body.bytes.byteLength };
  }
  if (body.kind === "stream") throw new Error("a job's input was not kept");
  const sending = await body.send(() => undefined);
  if (sending === null) throw new Error("a job's input was lost");
  await answered(env.RESULTS.put(key, sending.stream), LAYING_MS_MAX).finally(sending.stop);
  return { kind: "r2", key, bytes: body.bytes };
}
