/** The JSON view of a job and its schema. Result URLs are made for each response. */
import { z } from "zod";
import {
  JOB_STATUSES,
  type JobAttempt,
  type JobError,
  type JobState,
  type JobView as View,
} from "../../durable-objects/job-protocol.ts";
import { errorObject } from "../dialects/native.ts";
import { config, type Env } from "../env.ts";
import { type Reason, REASONS, type Refusal, refuse } from "../refusal.ts";
import { signedUrl } from "../results/signature.ts";
import { complaintOf } from "../run/complaint.ts";
import { iso, isoOrNull, Time } from "../api/time.ts";
import type { Trace } from "../trace.ts";

const ResultView = z
  .object({ id: z.string(), url: z.string(), content_type: z.string(), bytes: z.int(), sha256: z.string() })
  .meta({ id: "JobResult" });

const ErrorView = z
  .record(z.string(), z.unknown())
  .nullable()
  .meta({ description: "Same format as `error` in an error response." });

export const JobView = z
  .object({
    id: z.string(),
    service: z.string(),
    path: z.string(),
    status: z.enum(JOB_STATUSES),
    priority: z.enum(["high", "normal", "low"]),
    queue_position: z.int().nullable().meta({ description: "1: it is the next." }),
    eta_s: z.number().nullable().meta({ description: "Estimated seconds until the result, from recent run times." }),
    waiting_on: z
      .enum(["slots_busy", "tenant_cap", "no_healthy_card", "paused"])
      .nullable()
      .meta({ description: "Null: it does not wait, or a slot is free and it is only starting." }),
    attempts: z.int().meta({ description: "Cards that have begun it, and attempts that found none: see `tries`." }),
    tries: z.array(
      z.object({
        number: z.int(),
        card: z.string().nullable(),
        started_at: Time.nullable(),
        ended_at: Time.nullable(),
        error: ErrorView,
      }),
    ),
    progress: z.number().nullable(),
    batch: z.string().nullable(),
    created_at: Time,
    started_at: Time.nullable(),
    finished_at: Time.nullable(),
    retry_at: Time.nullable(),
    gpu_seconds: z.number(),
    cost: z.number().nullable().meta({ description: "What the job is charged; null until it has ended." }),
    results: z.array(ResultView),
    output: z.unknown().meta({ description: "The origin's JSON answer without its images." }),
    error: ErrorView,
  })
  .meta({ id: "Job" });

export interface Showing {
  env: Env;
  trace: Trace;
  base: string;
}

export async function jobView({ env, trace, base }: Showing, view: View): Promise<z.infer<typeof JobView>> {
  const now = Date.now();
  const { spec, state, waiting } = view;
  // Errors carry the job's id in place of the request id, so that they are the same whoever asks.
  const told = { id: spec.id, language: trace.language };
  const error = errorOf(state, told);
  const results = state.results.map(async ({ id, contentType, bytes, sha256 }) => ({
    id,
    url: await signedUrl(config(env), base, id, now),
    content_type: contentType,
    bytes,
    sha256,
  }));
  return {
    id: spec.id,
    service: spec.service,
    path: spec.path,
    status: state.status,
    priority: spec.priority,
    queue_position: waiting?.position ?? null,
    eta_s: eta(view, now),
    waiting_on: waiting?.on ?? null,
    attempts: state.attempts.length,
    tries: state.attempts.map((attempt, i) => ({
      ...tryView(attempt, told),
      // The error of the last attempt is that of the job, in the origin's own words.
      ...(error !== null && i === state.attempts.length - 1 ? { error } : {}),
    })),
    progress: state.progress,
    batch: spec.batch,
    created_at: iso(spec.createdAt),
    started_at: isoOrNull(state.startedAt),
    finished_at: isoOrNull(state.finishedAt),
    retry_at: isoOrNull(state.retryAt),
    gpu_seconds: Math.round(state.gpuMs) / 1000,
    cost: costOf(view),
    results: await Promise.all(results),
    output: state.output === null ? null : (JSON.parse(state.output) as unknown),
    error,
  };
}

function costOf({ spec, state: { bill } }: View): number | null {
  if (bill === null) return null;
  return bill.charge === "all" || bill.charge === "price" ? spec.costMilli / 1000 : 0;
}

type Told = Pick<Trace, "id" | "language">;

function tryView({ number, card, startedAt, endedAt, error }: JobAttempt, told: Told) {
  return {
    number,
    card,
    started_at: isoOrNull(startedAt),
    ended_at: isoOrNull(endedAt),
    error: error === null ? null : errorObject(refusalOf(error), told, endedAt ?? undefined),
  };
}

/** Returns the job's error, with the origin's own message and field if it gave them; null if the job has no error. */
export function errorOf({ error, answer, finishedAt }: Pick<JobState, "error" | "answer" | "finishedAt">, told: Told) {
  if (error === null) return null;
  const known = errorObject(refusalOf(error), told, finishedAt ?? undefined);
  const { message, field } = complaintOf(answer?.body ?? "");
  return message === null ? known : { ...known, message, param: field };
}

/** Turns a stored error back into the refusal that it was. */
export function refusalOf({ reason, param, started, facts, retryAfterMs, final = false }: JobError): Refusal {
  const known = (reason in REASONS ? reason : "internal") as Reason;
  return refuse(known, { param, started, facts, retryAfterMs, final });
}

/** Converts ms to seconds, rounded to a tenth. */
const tenth = (ms: number): number => Math.round(Math.max(0, ms) / 100) / 10;

/** Estimated seconds until the result. */
function eta({ state, waiting, serviceMs }: View, now: number): number | null {
  if (serviceMs === null) return null;
  if (state.status === "running") return tenth(serviceMs - (now - (state.attempts.at(-1)?.startedAt ?? now)));
  if (state.retryAt !== null && state.retryAt > now) return tenth(state.retryAt - now + serviceMs);
  if (waiting === null || waiting.startMs === null) return null;
  return tenth(waiting.startMs + serviceMs);
}
