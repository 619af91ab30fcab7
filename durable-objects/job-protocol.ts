/**
 * The words that the Worker exchanges with the objects of jobs: Job (one per job: its truth) and Backlog (one per tenant:
 * which jobs there are, and whose turn it is). As in card-protocol.ts: every method can be called twice and means it once.
 */
import type { Dialect } from "./courier-protocol.ts";
import type { Priority, WaitingOn } from "./pool-protocol.ts";
import type { Charge, Spent } from "./tenant-protocol.ts";

export const JOB_STATUSES = ["queued", "running", "succeeded", "failed", "canceled"] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export function isOver(status: JobStatus): boolean {
  return status === "succeeded" || status === "failed" || status === "canceled";
}

/** Where a job's input lies: small ones with the job, others in R2. */
export type JobInput =
  | { kind: "none" }
  | { kind: "inline"; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "r2"; key: string; bytes: number };

export interface JobWebhook {
  url: string;
  /** `whsec_...`; null: the tenant's. */
  secret: string | null;
  dialect: Dialect;
  /** What is told; without it, the end alone. */
  moments?: ("start" | "end")[];
}

/** What is to be done, as it was handed in. Never changes. */
export interface JobSpec {
  id: string;
  tenant: string;
  /** The key that it was handed in with. */
  key: string;
  service: string;
  priority: Priority;
  method: string;
  /** The whole path, route included, and the query as it came. */
  path: string;
  query: string;
  headers: Record<string, string>;
  input: JobInput;
  /** One try is enough; absent: a failure that a retry can mend is tried again. */
  retries?: false;
  createdAt: number;
  /** Its price, thousandths of a cost unit. */
  costMilli: number;
  /** Not started by then: failed. */
  startDeadlineAt: number | null;
  batch: string | null;
  webhook: JobWebhook | null;
  /** Our public address at the submission. */
  base: string;
  clientAddress: string | null;
  /** Kept so long after its end, ms. */
  keepMs: number;
  /** JSON text of what a dialect was given as input, to be shown again; null: too long. */
  asked?: string | null;
  /** JSON pointer to the images in the answer, where a dialect says it; else the kind's own. */
  resultsAt?: string | null;
}

export interface JobResult {
  id: string;
  contentType: string;
  bytes: number;
  sha256: string;
}

/** Why a run, or the job, came to nothing: a Refusal as far as it can be stored. */
export interface JobError {
  reason: string;
  param: string | null;
  started: "no" | "yes" | "unknown";
  facts: Record<string, string | number>;
  retryAfterMs: number | null;
}

export interface JobAttempt {
  number: number;
  card: string | null;
  startedAt: number | null;
  endedAt: number | null;
  error: JobError | null;
}

/** The origin's answer, as it lies in R2; an origin's own error, which is small, stands here. */
export interface JobAnswer {
  status: number;
  contentType: string | null;
  /** R2 key; null: not kept, or `body` has it. */
  key: string | null;
  body: string | null;
}

export interface JobState {
  status: JobStatus;
  /** Grows with every event. */
  seq: number;
  /** The Backlog's number of the Workflow instance that may run it; a lower one is over. */
  start: number;
  /** The run that may write: each time an instance begins it is another, so of two at once the later one counts. */
  run: number;
  attempts: JobAttempt[];
  /** 0 to 1, where the origin tells. */
  progress: number | null;
  startedAt: number | null;
  finishedAt: number | null;
  /** While a retry pauses: when it goes on. */
  retryAt: number | null;
  results: JobResult[];
  /** JSON text of the origin's answer without its images. */
  output: string | null;
  answer: JobAnswer | null;
  error: JobError | null;
  /** Time that cards ran for it, ms. */
  gpuMs: number;
  /** What it costs in the end; null until then. */
  bill: Bill | null;
}

/** What a job's end says to its Tenant. */
export interface Bill {
  /** Of the origin's answer; null: there is none. */
  status: number | null;
  charge: Charge;
  took: Partial<Pick<Spent, "bytes" | "results" | "reason">>;
}

export interface JobEvent {
  id: number;
  type: "state" | "position" | "progress" | "done";
  /** What the event says beside the job as it was then. */
  status: JobStatus;
  progress: number | null;
  position: number | null;
}

export interface JobView {
  spec: Omit<JobSpec, "webhook" | "headers" | "input">;
  state: JobState;
  /** Why and where it waits, while it does. */
  waiting: { on: WaitingOn; position: number | null; startMs: number | null } | null;
  /** What a run takes, ms; null when nothing is known. */
  serviceMs: number | null;
}

/** How a run ended. */
export type Outcome =
  | { kind: "succeeded"; results: JobResult[]; output: string | null; answer: JobAnswer; gpuMs: number; bill: Bill }
  | { kind: "failed"; error: JobError; answer: JobAnswer | null; gpuMs: number; bill: Bill }
  /** It may do better later. */
  | { kind: "again"; error: JobError; retryAt: number; gpuMs: number };

export type Begun =
  | { over: true }
  /** `failed`: cards on which it came to nothing. */
  | { over: false; run: number; spec: JobSpec; attempts: number; failed: string[]; startedAt: number | null };

// ------------------------------------------------------------------------------------------------------- Backlog

/** One job at a Backlog's door. */
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
  /** Jobs that may wait, in all services. */
  waiting: number;
  /** Slots that the tenant may hold in each service that is asked for. */
  concurrent: Record<string, number>;
}

export type Reserved = { ok: true } | { ok: false; waiting: number; max: number };

export interface ListQuery {
  status: JobStatus | null;
  service: string | null;
  /** Those that were handed in before this place. */
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

/** A try of this start came to nothing, and the next is due at this time. */
export interface Pause {
  start: number;
  at: number;
}

/** What a Job tells its Backlog. */
export interface BacklogRights {
  changed(id: string, status: JobStatus, pause: Pause | null): Promise<void>;
  /** Null: it is not known; false: its submission is still under way. */
  stands(id: string): Promise<boolean | null>;
  /** How many of its service sleep before it (0 when it does not sleep), and how many the tenant may run at once. */
  place(id: string): Promise<{ ahead: number; concurrent: number }>;
}

/** What a Backlog asks of a Job. */
export interface JobRights {
  /** `heardMsAgo`: when its Workflow spoke last; null: not since this object started. */
  pulse(): Promise<{ status: JobStatus; heardMsAgo: number | null } | null>;
  /** It had to be started by now; one that has run once is not late. */
  late(): Promise<void>;
  /** As if it had never been. */
  discard(): Promise<void>;
}
