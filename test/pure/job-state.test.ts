/** A job's states against a model that knows only which run may report and whether the job has ended. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Bill, JobState, Outcome } from "../../durable-objects/job-protocol.ts";
import { isOver } from "../../durable-objects/job-protocol.ts";
import * as core from "../../durable-objects/job-state.ts";

const ERROR = { reason: "origin_reset", param: null, started: "unknown", facts: {}, retryAfterMs: null } as const;
const ALL: Bill = { status: 200, charge: "all", took: {} };
const FREE: Bill = { status: null, charge: "nothing", took: { reason: "origin_reset" } };
const ANSWER = { status: 200, contentType: null, key: null, body: null };
const SUCCEEDED: Outcome = { kind: "succeeded", results: [], output: null, answer: ANSWER, gpuMs: 5, bill: ALL };
const FAILED: Outcome = { kind: "failed", error: ERROR, answer: null, gpuMs: 5, bill: FREE };
const again = (retryAt: number): Outcome => ({ kind: "again", error: ERROR, retryAt, gpuMs: 5 });

interface Model {
  run: number;
  start: number;
  attempts: number;
  running: boolean;
  pausing: boolean;
  over: "succeeded" | "failed" | "canceled" | null;
}

type Does = { what: "begin"; start: number } | { what: "begin again" } | { what: "cancel" | "late" } | Speaks;
type Speaks = { what: "started" | "requeued" | "progress" | "succeed" | "fail" | "pause"; behind: number };

/** `behind` is 0 for the run that may report, and greater for earlier runs. */
const speaks = fc.record({
  what: fc.constantFrom<Speaks["what"]>("started", "requeued", "progress", "succeed", "fail", "pause"),
  behind: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat({ max: 2 })),
});
const does: fc.Arbitrary<Does> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constant("begin" as const), start: fc.integer({ min: -1, max: 1 }) }) },
  fc.constant<Does>({ what: "begin again" }),
  { weight: 6, arbitrary: speaks },
  { weight: 1, arbitrary: fc.constantFrom<Does>({ what: "cancel" }, { what: "late" }) },
);

function stepOf(state: JobState, { run, start }: Model, act: Does, now: number): core.Step {
  if (act.what === "begin") return core.begin(state, start + act.start, now);
  if (act.what === "begin again") return core.begin(state, start, now);
  if (act.what === "cancel") return core.cancel(state, now);
  if (act.what === "late") return core.finish(state, run, core.lateStart({ createdAt: 0 }, now), now);
  const speaker = run - (act as Speaks).behind;
  if (act.what === "started") return core.started(state, speaker, "card", now);
  if (act.what === "requeued") return core.requeued(state, speaker, "card", ERROR, now);
  if (act.what === "progress") return core.progressed(state, speaker, 0.5);
  const outcome = { succeed: SUCCEEDED, fail: FAILED, pause: again(now + 1) }[act.what];
  return core.finish(state, speaker, outcome, now);
}

function expected(before: Model, act: Does): Model {
  if (before.over !== null) return before;
  if (act.what === "begin" || act.what === "begin again") {
    const start = before.start + (act.what === "begin" ? act.start : 0);
    if (start < before.start || (start === before.start && before.pausing)) return before;
    const run = before.run + 1;
    const over = before.attempts >= core.RUNS_MAX ? "failed" : null;
    return { ...before, run, start, running: false, pausing: false, over };
  }
  if (act.what === "cancel") return { ...before, running: false, pausing: false, over: "canceled" };
  if (act.what === "late") return { ...before, running: false, pausing: false, over: "failed" };
  if ((act as Speaks).behind > 0) return before;
  const attempts = before.attempts + (before.running ? 0 : 1);
  switch (act.what) {
    case "started":
      return { ...before, attempts, running: true, pausing: false };
    case "requeued":
      return { ...before, running: false };
    case "succeed":
      return { ...before, running: false, pausing: false, over: "succeeded" };
    case "fail":
      return { ...before, running: false, pausing: false, over: "failed" };
    case "pause":
      return { ...before, attempts, running: false, pausing: true };
    default:
      return before;
  }
}

test("a job's first event is its queued state", () => {
  const { state, events } = core.created();
  expect(state).toEqual({ ...core.NEW, seq: 1 });
  expect(events).toEqual([{ id: 1, type: "state", status: "queued", progress: null, position: null }]);
});

test("for any order of reports a job ends once, with a bill, and only its latest run is heard", () => {
  fc.assert(
    fc.property(fc.array(does, { maxLength: 40 }), (acts) => {
      let state = core.NEW;
      let model: Model = { run: 0, start: 0, attempts: 0, running: false, pausing: false, over: null };
      let ends = 0;
      for (const [now, act] of acts.entries()) {
        const step = stepOf(state, model, act, now);
        const after = expected(model, act);
        if (model.over !== null) expect(step).toBeNull();
        const { seq } = state;
        state = step?.state ?? state;
        expect(step?.events.map(({ id }) => id) ?? []).toEqual(
          Array.from({ length: state.seq - seq }, (_, i) => seq + 1 + i),
        );
        ends += step?.events.filter(({ type }) => type === "done").length ?? 0;
        model = after;
        const { status } = state;
        expect([status, state.run, state.retryAt !== null]).toEqual([
          model.over ?? (model.running ? "running" : "queued"),
          model.run,
          model.pausing,
        ]);
        expect([state.bill !== null, state.finishedAt !== null, ends]).toEqual(
          isOver(status) ? [true, true, 1] : [false, false, 0],
        );
        const open = state.attempts.filter(({ endedAt }) => endedAt === null).length;
        expect(open).toBe(status === "running" ? 1 : 0);
      }
    }),
    { numRuns: 500 },
  );
});

/** Runs a job whose Workflow is lost each time, and counts its runs; `onCard` tells which of them a card starts. */
function begunOf(onCard: (run: number) => boolean): { begun: number; state: JobState } {
  let state = core.NEW;
  let begun = 0;
  for (let start = 1; ; start++) {
    state = core.begin(state, start, start)?.state ?? state;
    if (isOver(state.status)) return { begun, state };
    begun++;
    if (onCard(begun)) state = core.started(state, state.run, "card", start)?.state ?? state;
  }
}

test("a job whose Workflow is lost on a card every time fails after a bounded number of runs", () => {
  const { begun, state } = begunOf(() => true);
  expect(begun).toBe(core.RUNS_MAX);
  expect(state).toMatchObject({ status: "failed", error: { reason: "internal" }, bill: { charge: "nothing" } });
});

test("runs that only waited in line do not count as attempts, but their number is bounded too", () => {
  expect(begunOf((run) => run > 100).begun).toBe(100 + core.RUNS_MAX);
  expect(begunOf(() => false).begun).toBe(core.BEGINS_MAX);
});

test("a job that pauses after each failure fails after a bounded number of attempts, with or without a card", () => {
  let state = core.NEW;
  let begun = 0;
  for (; ; begun++) {
    state = core.begin(state, begun + 1, begun)?.state ?? state;
    if (isOver(state.status)) break;
    state = core.finish(state, state.run, again(begun), begun)?.state ?? state;
  }
  expect(begun).toBe(core.RUNS_MAX);
});

test("after a failover within one run the attempt names the card that runs it now", () => {
  const begun = core.begin(core.NEW, 1, 10)?.state ?? core.NEW;
  const first = core.started(begun, 1, "a", 20)?.state ?? begun;
  expect(core.started(first, 1, "a", 30)).toBeNull();
  const second = core.started(first, 1, "b", 30);
  expect(second?.events).toEqual([]);
  expect(second?.state).toEqual({ ...first, attempts: [{ ...first.attempts[0], card: "b" }] });
  expect(core.started(first, 0, "b", 30)).toBeNull();
});

test("a canceled job is charged while a card runs it, and costs nothing otherwise", () => {
  expect(core.cancel(core.NEW, 5)?.state.bill).toMatchObject({ charge: "nothing" });
  const begun = core.begin(core.NEW, 1, 10)?.state ?? core.NEW;
  expect(core.cancel(begun, 20)?.state).toMatchObject({ bill: { charge: "nothing" }, gpuMs: 0 });
  const running = core.started(begun, 1, "card", 30)?.state ?? begun;
  expect(core.cancel(running, 75)?.state).toMatchObject({ bill: { charge: "all" }, gpuMs: 45 });
  const pausing = core.finish(running, 1, again(99), 40)?.state ?? running;
  expect(core.cancel(pausing, 75)?.state).toMatchObject({ bill: { charge: "nothing" }, gpuMs: 5 });
});

test("a failure that another card makes up for is an attempt with its error, and not a retry", () => {
  const steps: ((state: JobState) => core.Step)[] = [
    (state) => core.begin(state, 1, 0),
    (state) => core.started(state, 1, "a", 10),
    (state) => core.requeued(state, 1, "a", ERROR, 30),
    // A repeated report.
    (state) => core.requeued(state, 1, "a", ERROR, 31),
    (state) => core.started(state, 1, "b", 40),
    (state) => core.requeued(state, 1, "b", ERROR, 45),
  ];
  const queued = steps.reduce((state, step) => step(state)?.state ?? state, core.NEW);
  expect(queued).toMatchObject({
    status: "queued",
    seq: 4,
    attempts: [
      { number: 1, card: "a", endedAt: 30, error: ERROR },
      { number: 2, card: "b", endedAt: 45, error: ERROR },
    ],
  });
  expect(core.triesOf(queued)).toBe(0);
  // No other card was found: the last failure becomes the failure of the run, however the run ends.
  for (const ended of [core.finish(queued, 1, again(99), 60), core.begin(queued, 2, 60)]) {
    expect(ended?.state.attempts).toHaveLength(2);
    expect(core.triesOf(ended?.state ?? queued)).toBe(1);
  }
  expect(core.cancel(queued, 60)?.state).toMatchObject({ bill: { charge: "nothing" }, gpuMs: 25 });
  const onThird = core.started(queued, 1, "c", 50)?.state ?? queued;
  expect(core.cancel(onThird, 60)?.state).toMatchObject({ bill: { charge: "all" }, gpuMs: 35 });
});
