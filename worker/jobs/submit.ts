/**
 * Handing a job in: room for it (rate, quota, waiting jobs), its input laid aside, its Job object made; only then it
 * stands. One that is cut off in between is forgotten by its Backlog, and was never answered for.
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
import type { Priority } from "../../durable-objects/protocol.ts";
import type { Ask } from "../ask.ts";
import type { Caller } from "../auth.ts";
import type { Body } from "../body.ts";
import type { Env } from "../env.ts";
import { randomText } from "../keys.ts";
import { admit } from "../limits.ts";
import { sendable } from "../origin.ts";
import { type Refusal, refuse } from "../refusal.ts";
import type { Trace } from "../trace.ts";
import { answered } from "../until.ts";

const ID_LENGTH = 24;
const DAY_MS = 86_400_000;
/** Inputs up to this lie with the job, larger ones in R2. */
const INLINE_BYTES_MAX = 64 * 1024;
/** JSON text of an input that is shown again. */
const ASKED_LENGTH_MAX = 32 * 1024;
/** Job objects made at the same time. */
const MADE_AT_ONCE = 50;
/** Waiting jobs begin to run one after the other: those beyond the bound may try again after so long. */
const RETRY_AFTER_MS = 5_000;

export interface Handing {
  env: Env;
  trace: Trace;
  caller: Caller;
  base: string;
  clientAddress: string | null;
}

/** One job to be, before it has an id. */
export interface Draft {
  ask: Ask;
  priority: Priority;
  startDeadlineAt: number | null;
  webhook: JobWebhook | null;
  /** What a dialect was given as input, to be shown again. */
  asked?: unknown;
}

export const newJobId = (): string => `job_${randomText(ID_LENGTH)}`;
export const newBatchId = (): string => `bat_${randomText(ID_LENGTH)}`;

/** The job, waiting; or why it was not taken. What it asked for is given back then. */
export async function submit(handing: Handing, draft: Draft): Promise<JobView | Refusal> {
  const { env, caller } = handing;
  const id = newJobId();
  const limited = await admit(env, caller, { ...handing.trace, id }, draft.ask);
  if (limited !== null) return limited;
  const spec = await specOf(handing, draft, id, null);
  const refused = await reserve(handing, [spec], null);
  if (refused !== null) {
    await Promise.all([giveBackAll(env, caller.tenant, [id]), forgetInput(env, spec)]);
    return refused;
  }
  await make(env, spec);
  await answered(env.BACKLOG.getByName(caller.tenant).stand([id]));
  return viewOf(env, caller.tenant, id);
}

/** Room for waiting jobs, all or none. */
export async function reserve(
  { env, caller }: Handing,
  specs: JobSpec[],
  batch: NewBatch | null,
): Promise<Refusal | null> {
  const limits: BacklogLimits = {
    waiting: caller.limits.jobs_waiting,
    concurrent: Object.fromEntries(specs.map(({ service }) => [service, caller.limits.concurrent])),
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
export async function makeAll(env: Env, specs: JobSpec[]): Promise<void> {
  for (let i = 0; i < specs.length; i += MADE_AT_ONCE)
    await Promise.all(specs.slice(i, i + MADE_AT_ONCE).map((spec) => make(env, spec)));
}

async function make(env: Env, spec: JobSpec): Promise<void> {
  await answered(env.JOB.getByName(spec.id).create(spec));
}

/** The job as it is now. */
export async function viewOf(env: Env, tenant: string, id: string): Promise<JobView | Refusal> {
  return (await answered(env.JOB.getByName(id).view(tenant))) ?? refuse("not_found");
}

/** Tokens and quota of jobs that were not taken. */
export async function giveBackAll(env: Env, tenant: string, ids: string[]): Promise<void> {
  const stub = env.TENANT.getByName(tenant);
  await Promise.all(ids.map((id) => answered(stub.record(id, "failed", null, [], "nothing"))));
}

/** What the job is, with its input laid aside. */
export async function specOf(handing: Handing, draft: Draft, id: string, batch: string | null): Promise<JobSpec> {
  const { env, caller, base, clientAddress } = handing;
  const { ask, priority, startDeadlineAt, webhook } = draft;
  return {
    id,
    tenant: caller.tenant,
    key: caller.key,
    service: ask.service.id,
    priority,
    method: ask.method,
    path: ask.path,
    query: ask.query,
    headers: Object.fromEntries(sendable(ask.headers)),
    input: await layAside(env, ask.body, id),
    createdAt: Date.now(),
    startDeadlineAt,
    batch,
    webhook,
    base,
    clientAddress,
    keepMs: ask.service.config.results.keep_days * DAY_MS,
    ...(draft.asked === undefined ? {} : { asked: shownAgain(draft.asked) }),
    ...(ask.resultsAt === undefined ? {} : { resultsAt: ask.resultsAt }),
  };
}

function shownAgain(asked: unknown): string | null {
  const text = JSON.stringify(asked);
  return text.length > ASKED_LENGTH_MAX ? null : text;
}

const inputKey = (id: string): string => `jobs/${id}/input`;

/** Of a job that was not taken. */
async function forgetInput(env: Env, { input }: JobSpec): Promise<void> {
  if (input.kind === "r2") await env.RESULTS.delete(input.key);
}

async function layAside(env: Env, body: Body, id: string): Promise<JobInput> {
  if (body.kind === "none") return { kind: "none" };
  if (body.kind === "bytes" && body.bytes.byteLength <= INLINE_BYTES_MAX) return { kind: "inline", bytes: body.bytes };
  const key = inputKey(id);
  if (body.kind === "bytes") {
    await env.RESULTS.put(key, body.bytes);
    return { kind: "r2", key, bytes: body.bytes.byteLength };
  }
  if (body.kind === "stream") throw new Error("a job's input was not kept");
  const sending = await body.send(() => undefined);
  if (sending === null) throw new Error("a job's input was lost");
  await env.RESULTS.put(key, sending.stream);
  return { kind: "r2", key, bytes: body.bytes };
}
