/**
 * What a job is, and what may become of it. Pure; `now` is an argument.
 *
 *   queued -> running -> succeeded | failed | canceled
 *   running -> queued     a run failed, and a retry can mend it; or whoever ran it is gone
 *   queued -> failed | canceled
 *
 * Always: a job ends once, and what has ended never changes; a run whose number is not the latest changes nothing; every
 * change is one event, with a number that only grows.
 */
import { isOver, type JobAttempt, type JobError, type JobEvent, type JobState, type Outcome } from "./job-protocol.ts";

export const NEW: JobState = {
  status: "queued",
  seq: 0,
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
};

export interface Change {
  state: JobState;
  events: JobEvent[];
}

/** Nothing: the job is over, or the run is not the latest. */
export type Step = Change | null;

function event(state: JobState, type: JobEvent["type"], position: number | null = null): Change {
  const { status, progress } = state;
  const seq = state.seq + 1;
  return { state: { ...state, seq }, events: [{ id: seq, type, status, progress, position }] };
}

/** A terminal state says so twice: as a state, and as the last event. */
function ended(state: JobState): Change {
  const first = event(state, "state");
  const last = event(first.state, "done");
  return { state: last.state, events: [...first.events, ...last.events] };
}

/** A try that nobody can say the end of: whoever ran it is gone. */
const LOST: JobError = { reason: "internal", param: null, started: "unknown", facts: {}, retryAfterMs: null };

/** Another Workflow instance takes the job over; the one before may write no more. Null: it is over. */
export function begin(state: JobState, run: number, now: number): Step {
  if (isOver(state.status) || run < state.run) return null;
  if (state.status === "queued" || run === state.run) return { state: { ...state, run }, events: [] };
  const attempts = closed(state, LOST, now);
  return event({ ...state, run, status: "queued", progress: null, attempts }, "state");
}

/** A card runs it. Twice is once. */
export function started(state: JobState, run: number, card: string, now: number): Step {
  if (isOver(state.status) || run !== state.run || state.status === "running") return null;
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

/** How far the run is; it never goes back, and small steps are no events. */
export function progressed(state: JobState, run: number, progress: number): Step {
  if (state.status !== "running" || run !== state.run) return null;
  const value = Math.round(Math.min(1, Math.max(0, progress)) * 100) / 100;
  return value <= (state.progress ?? 0) ? null : event({ ...state, progress: value }, "progress");
}

/** Its place in line is another now. */
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
    const { error, answer } = outcome;
    const attempts = closed(state, error, now);
    return ended({ ...state, status: "failed", attempts, error, answer, gpuMs, finishedAt: now, retryAt: null });
  }
  const { results, output, answer } = outcome;
  const attempts = closed(state, null, now);
  return ended({
    ...state,
    status: "succeeded",
    progress: 1,
    attempts,
    results,
    output,
    answer,
    gpuMs,
    startedAt: state.startedAt ?? now,
    finishedAt: now,
    retryAt: null,
  });
}

/** What becomes of a job that was not started in time. */
export function lateStart({ createdAt }: { createdAt: number }, now: number): Outcome {
  const facts = { waited_s: Math.round((now - createdAt) / 1000) };
  const error: JobError = { reason: "queue_timeout", param: null, started: "no", facts, retryAfterMs: null };
  return { kind: "failed", error, answer: null, gpuMs: 0 };
}

/** By its tenant's wish, whatever it is doing. */
export function cancel(state: JobState, now: number): Step {
  if (isOver(state.status)) return null;
  return ended({ ...state, status: "canceled", attempts: closed(state, null, now), finishedAt: now, retryAt: null });
}

/** The attempt under way has ended; one that no card took is none. */
function closed(state: JobState, error: JobError | null, now: number): JobAttempt[] {
  const last = state.attempts.at(-1);
  if (last !== undefined && last.endedAt === null)
    return [...state.attempts.slice(0, -1), { ...last, endedAt: now, error }];
  if (error === null) return state.attempts;
  const number = state.attempts.length + 1;
  return [...state.attempts, { number, card: null, startedAt: null, endedAt: now, error }];
}
