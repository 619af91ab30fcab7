/**
 * The RPC interface of the job objects: Job (one per job, its source of truth) and Backlog (one per tenant: its jobs
 * and their order). Methods are idempotent, as in card-protocol.ts.
 */
import type { Dialect } from "./courier-protocol.ts";
import type { Priority, WaitingOn } from "./pool-protocol.ts";
import type { Charge, Spent } from "./tenant-protocol.ts";

export const JOB_STATUSES = ["queued", "running", "succeeded", "failed", "canceled"] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export function isOver(status: JobStatus): boolean {
  return status === "succeeded" || status === "failed" || status === "canceled";
}

/** Where the job's input is stored: small inputs with the job, others in R2. */
export type JobInput =
  | { kind: "none" }
  | { kind: "inline"; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "r2"; key: string; bytes: number };

export interface JobWebhook {
  url: string;
  /** `whsec_...`; null: the tenant's secret. */
  secret: string | null;
  dialect: Dialect;
  /** When to notify; default: only at the end. */
  moments?: ("start" | "end")[];
}

/** A job as submitted. Immutable. */
export interface JobSpec {
  id: string;
  tenant: string;
  /** Id of the key it was submitted with. */
  key: string;
  service: string;
  priority: Priority;
  method: string;
  /** The whole path, including the service's route; `query` is as received. */
  path: string;
  query: string;
  headers: Record<string, string>;
  input: JobInput;
  /** False: run only once. Absent: failures that a retry may fix are retried. */
  retries?: false;
  createdAt: number;
  /** Price in thousandths of a cost unit. */
  costMilli: number;
  /** The job fails if it has not started by this time. */
  startDeadlineAt: number | null;
  batch: string | null;
  webhook: JobWebhook | null;
  /** Our public base URL at submission. */
  base: string;
  clientAddress: string | null;
  /** How long it is kept after its end, ms. */
  keepMs: number;
  /** JSON text of the dialect's input, shown when the job is read; null if it was too long. */
  asked?: string | null;
  /** JSON pointer to the images in the response, if the dialect sets one; else the default of the service's kind. */
  resultsAt?: string | null;
}

export interface JobResult {
  id: string;
  contentType: string;
  bytes: number;
  sha256: string;
}

/** Why a run, or the job, failed: the storable part of a Refusal. */
export interface JobError {
  reason: string;
  param: string | null;
  started: "no" | "yes" | "unknown";
  facts: Record<string, string | number>;
  retryAfterMs: number | null;
  /** As in Refusal. Absent: false. */
  final?: boolean;
}

export interface JobAttempt {
  number: number;
  card: string | null;
  startedAt: number | null;
  endedAt: number | null;
  error: JobError | null;
  /** The card failed and the run went back into line for another card. Does not count as a retry. */
  failover?: true;
}

/** The origin's response, stored in R2. An origin's own error is small and stored inline. */
export interface JobAnswer {
  status: number;
  contentType: string | null;
  /** R2 key; null if the response is not kept or is in `body`. */
  key: string | null;
  body: string | null;
}

export interface JobState {
  status: JobStatus;
  /** Incremented with every event. */
  seq: number;
  /** The Backlog's start number of the Workflow instance that may run it; instances with lower numbers are obsolete. */
  start: number;
  /** Fencing token: the run that may write. Each begin increments it, so of two instances only the later can write. */
  run: number;
  attempts: JobAttempt[];
  /** 0 to 1, if the origin reports it. */
  progress: number | null;
  startedAt: number | null;
  finishedAt: number | null;
  /** When the next retry is due, during the pause before it. */
  retryAt: number | null;
  results: JobResult[];
  /** JSON text of the origin's response, without its images. */
  output: string | null;
  answer: JobAnswer | null;
  error: JobError | null;
  /** Time that cards ran for it, ms. */
  gpuMs: number;
  /** What the job costs; null until it ends. */
  bill: Bill | null;
}

/** What the end of a job reports to its Tenant for billing. */
export interface Bill {
  /** HTTP status of the origin's response; null if there was none. */
  status: number | null;
  charge: Charge;
  took: Partial<Pick<Spent, "bytes" | "results" | "reason">>;
}

export interface JobEvent {
  id: number;
  type: "state" | "position" | "progress" | "done";
  /** The job's status at the time of the event. */
  status: JobStatus;
  progress: number | null;
  position: number | null;
}

export interface JobView {
  spec: Omit<JobSpec, "webhook" | "headers" | "input">;
  state: JobState;
  /** Why and where it waits; null if it does not. */
  waiting: { on: WaitingOn | null; position: number | null; startMs: number | null } | null;
  /** Mean time of a run, ms; null if unknown. */
  serviceMs: number | null;
  /** Set by the Worker when results of this job were removed; these are missing from `state.results`. */
  removed?: true;
}

/** How a run ended. */
export type Outcome =
  | { kind: "succeeded"; results: JobResult[]; output: string | null; answer: JobAnswer; gpuMs: number; bill: Bill }
  | { kind: "failed"; error: JobError; answer: JobAnswer | null; gpuMs: number; bill: Bill }
  /** A failure that is to be retried at `retryAt`. */
  | { kind: "again"; error: JobError; retryAt: number; gpuMs: number };

export type Begun =
  | { over: true }
  /** `failed`: cards on which it failed. */
  | { over: false; run: number; spec: JobSpec; attempts: number; failed: string[]; startedAt: number | null };

// ------------------------------------------------------------------------------------------------------- Backlog

/** A job submitted to the Backlog. */
export interface NewJob {
  id: string;
  service: string;
  priority: Priority;
  createdAt: number;
  startDeadlineAt: number | null;
  keepMs: number;
}

export interface NewBatch {
  id: string;
  tenant: string;
  webhook: JobWebhook | null;
}

export interface BacklogLimits {
  /** Maximum number of waiting jobs, over all services. */
  waiting: number;
  /** Slots that the tenant may hold, for each service of the submission. */
  concurrent: Record<string, number>;
}

export type Reserved = { ok: true } | { ok: false; waiting: number; max: number };

export interface ListQuery {
  status: JobStatus | null;
  service: string | null;
  /** Only jobs submitted before this place. */
  before: number | null;
  limit: number;
}

export interface Listed {
  id: string;
  service: string;
  status: JobStatus;
  /** Its place in the order of submission. */
  place: number;
}

export interface BatchView {
  id: string;
  createdAt: number;
  finishedAt: number | null;
  webhook: JobWebhook | null;
  counts: Record<JobStatus, number>;
  jobs: string[];
}

/** An attempt under this start number failed; the next is due at `at`. */
export interface Pause {
  start: number;
  at: number;
}

/** The Backlog methods that a Job calls. */
export interface BacklogRpc {
  /** `concurrent`: how many jobs of its service the tenant may run at once, as of the latest run; null: unknown. */
  changed(id: string, status: JobStatus, pause: Pause | null, concurrent: number | null): Promise<void>;
  /** Null: the id is unknown. False: the submission is still in progress. */
  stands(id: string): Promise<boolean | null>;
  /** `ahead`: sleeping jobs of its service before it (0 if it does not sleep). `concurrent`: the tenant's cap. */
  place(id: string): Promise<{ ahead: number; concurrent: number }>;
}

/** The Job methods that a Backlog calls. */
export interface JobRpc {
  /** `heardMsAgo`: time since its Workflow last called; null if not since this object started. */
  pulse(): Promise<{ status: JobStatus; heardMsAgo: number | null } | null>;
  /** Called after the start deadline. Fails the job unless it has run. Returns its status; null: no such job. */
  late(): Promise<JobStatus | null>;
  /** Deletes all traces of the job. */
  discard(): Promise<void>;
}
