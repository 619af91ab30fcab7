/**
 * The state machine of a job. Pure; `now` is an argument.
 *
 *   queued -> running -> succeeded | failed | canceled
 *   running -> queued     a card failed and the run is back in line, a run failed and may be retried, or its Workflow
 *                         instance is gone
 *   queued -> failed | canceled
 *
 * Invariants: a job ends once and never changes after that; an obsolete run cannot change it; every visible change is
 * an event with an increasing number; a job that is over has a bill.
 */
import {
  type Bill,
  isOver,
  type JobAttempt,
  type JobError,
  type JobEvent,
  type JobState,
  type Outcome,
  type Pause,
} from "./job-protocol.ts";

/** Maximum number of attempts: a job may crash its Workflow each time. A begin that only waited in line is none. */
export const RUNS_MAX = 12;
/** Maximum number of begins, with or without a card: a job may crash its Workflow before it has one. */
export const BEGINS_MAX = 1_000;

export const NEW: JobState = {
  status: "queued",
  seq: 0,
  start: 0,
  run: 0,
  attempts: [],
  progress: null,
  startedAt: null,
  finishedAt: null,
  retryAt: null,
  results: [],
  output: null,
  answer: null,
  error: null,
  gpuMs: 0,
  bill: null,
};

export interface Change {
  state: JobState;
  events: JobEvent[];
}

/** Null: nothing changes, because the job is over, the run is obsolete, or the change was already made. */
export type Step = Change | null;

function event(state: JobState, type: JobEvent["type"], position: number | null = null): Change {
  const { status, progress } = state;
  const seq = state.seq + 1;
  return { state: { ...state, seq }, events: [{ id: seq, type, status, progress, position }] };
}

/** The end is two events: `state`, then `done` as the last one. */
function ended(state: JobState): Change {
  const first = event(state, "state");
  const last = event(first.state, "done");
  return { state: last.state, events: [...first.events, ...last.events] };
}

/** A new job. */
export function created(): Change {
  return event(NEW, "state");
}

/** The error of an attempt with unknown outcome: its Workflow instance is gone. */
const LOST: JobError = { reason: "internal", param: null, started: "unknown", facts: {}, retryAfterMs: null };

const FREE: Bill = { status: null, charge: "nothing", took: {} };

/**
 * Begins a run; earlier runs may write no more. Returns null if (1) the job is over, (2) a later start runs it, or (3)
 * this start's attempt has ended and waits for its retry. (4) A job that was attempted or begun too often fails.
 */
export function begin(state: JobState, start: number, now: number): Step {
  // (1) (2)
  if (isOver(state.status) || start < state.start) return null;
  // (3)
  if (start === state.start && state.retryAt !== null) return null;
  const next = { ...state, start, run: state.run + 1, retryAt: null };
  // (4)
  if (state.attempts.length >= RUNS_MAX || next.run > BEGINS_MAX) {
    const outcome: Outcome = { kind: "failed", error: LOST, answer: null, gpuMs: 0, bill: FREE };
    return finish(next, next.run, outcome, now);
  }
  if (state.status === "queued") return { state: { ...next, attempts: counted(state.attempts) }, events: [] };
  return event({ ...next, status: "queued", progress: null, attempts: closed(state, LOST, now) }, "state");
}

/** A card runs it. Idempotent. */
export function started(state: JobState, run: number, card: string, now: number): Step {
  if (isOver(state.status) || run !== state.run) return null;
  const last = state.attempts.at(-1);
  if (state.status === "running" && last !== undefined) {
    // On another card: failover, and the report of the first card's failure was lost.
    if (last.card === card) return null;
    return { state: { ...state, attempts: [...state.attempts.slice(0, -1), { ...last, card }] }, events: [] };
  }
  const attempt: JobAttempt = { number: state.attempts.length + 1, card, startedAt: now, endedAt: null, error: null };
  return event(
    {
      ...state,
      status: "running",
      startedAt: state.startedAt ?? now,
      retryAt: null,
      progress: null,
      attempts: [...state.attempts, attempt],
    },
    "state",
  );
}

/** The card failed, and the run is back in line. Idempotent. */
export function requeued(state: JobState, run: number, card: string, error: JobError, now: number): Step {
  const last = state.attempts.at(-1);
  if (state.status !== "running" || run !== state.run || last?.card !== card) return null;
  const attempts: JobAttempt[] = [...state.attempts.slice(0, -1), { ...last, endedAt: now, error, failover: true }];
  return event({ ...state, status: "queued", progress: null, attempts }, "state");
}

/** Records the progress of the run. It never decreases, and is rounded to whole percents to avoid needless events. */
export function progressed(state: JobState, run: number, progress: number): Step {
  if (state.status !== "running" || run !== state.run) return null;
  const value = Math.round(Math.min(1, Math.max(0, progress)) * 100) / 100;
  return value <= (state.progress ?? 0) ? null : event({ ...state, progress: value }, "progress");
}

/** Its position in the queue has changed. */
export function moved(state: JobState, position: number): Step {
  return state.status === "queued" ? event(state, "position", position) : null;
}

export function finish(state: JobState, run: number, outcome: Outcome, now: number): Step {
  if (isOver(state.status) || run !== state.run) return null;
  const gpuMs = state.gpuMs + outcome.gpuMs;
  if (outcome.kind === "again") {
    const { error, retryAt } = outcome;
    const attempts = closed(state, error, now);
    return event({ ...state, status: "queued", progress: null, attempts, retryAt, gpuMs }, "state");
  }
  if (outcome.kind === "failed") {
    const { error, answer, bill } = outcome;
    // A job that was not started in time was never attempted.
    const attempts = closed(state, error.reason === "queue_timeout" ? null : error, now);
    return ended({ ...state, status: "failed", attempts, error, answer, bill, gpuMs, finishedAt: now, retryAt: null });
  }
  const { results, output, answer, bill } = outcome;
  const attempts = closed(state, null, now);
  return ended({
    ...state,
    status: "succeeded",
    progress: 1,
    attempts,
    results,
    output,
    answer,
    bill,
    gpuMs,
    startedAt: state.startedAt ?? now,
    finishedAt: now,
    retryAt: null,
  });
}

/** The outcome of a job that missed its start deadline. */
export function lateStart({ createdAt }: { createdAt: number }, now: number): Outcome {
  const facts = { waited_s: Math.round((now - createdAt) / 1000) };
  const error: JobError = { reason: "queue_timeout", param: null, started: "no", facts, retryAfterMs: null };
  const bill: Bill = { ...FREE, took: { reason: error.reason } };
  return { kind: "failed", error, answer: null, gpuMs: 0, bill };
}

/** Cancels the job for its tenant, in any state. Work that a card has begun is charged. */
export function cancel(state: JobState, now: number): Step {
  if (isOver(state.status)) return null;
  const gpuMs = state.gpuMs + runMs(state, now);
  const charge = state.status === "running" ? "all" : "nothing";
  const bill: Bill = { ...FREE, charge, took: { reason: "client_gone" } };
  const attempts = closed(state, null, now);
  return ended({ ...state, status: "canceled", attempts, bill, gpuMs, finishedAt: now, retryAt: null });
}

/** Time that cards have spent on the current run, ms: its present card and those that failed before it. */
function runMs({ attempts }: JobState, now: number): number {
  const past = attempts.findLastIndex(({ endedAt, failover }) => endedAt !== null && failover !== true);
  const spent = attempts.slice(past + 1).map(({ startedAt, endedAt }) => (endedAt ?? now) - (startedAt ?? now));
  return spent.reduce((sum, ms) => sum + Math.max(0, ms), 0);
}

/** What the Backlog needs to know, as text: if two states map to the same text, it need not be told of the change. */
export function newsOf({ status, retryAt }: JobState): string {
  return retryAt === null ? status : `${status} until ${retryAt}`;
}

/** The number of attempts that count. Our own faults before a card took the job do not count, nor do failovers. */
export function triesOf({ attempts }: JobState): number {
  const counting = attempts.filter(({ card, error }) => card !== null || error?.reason !== "internal");
  return counting.filter(({ failover }) => failover !== true).length;
}

/** The pause before the next retry, or null. */
export function pauseOf({ start, retryAt }: JobState): Pause | null {
  return retryAt === null ? null : { start, at: retryAt };
}

/** If no card took the run after a failover, its last attempt counts as the failure of the run. */
function counted(attempts: JobAttempt[]): JobAttempt[] {
  const last = attempts.at(-1);
  if (last?.failover !== true) return attempts;
  const { failover: _failover, ...attempt } = last;
  return [...attempts.slice(0, -1), attempt];
}

/** Ends the current attempt. Without one, an error is recorded as an attempt without a card. */
function closed(state: JobState, error: JobError | null, now: number): JobAttempt[] {
  const last = state.attempts.at(-1);
  if (last !== undefined && last.endedAt === null)
    return [...state.attempts.slice(0, -1), { ...last, endedAt: now, error }];
  if (error === null) return state.attempts;
  if (last?.failover === true) return counted(state.attempts);
  const number = state.attempts.length + 1;
  return [...state.attempts, { number, card: null, startedAt: null, endedAt: now, error }];
}
