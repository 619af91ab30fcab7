/**
 * Computes the figures of a case: answers are timed by the users' clocks, capacity comes from the cards' records. Pure.
 *
 * The physical limit is what the slots could have answered in the window at the mean run time of the cards in this same
 * run. A run whose caller has hung up is a ghost: nobody gets its answer, so even a perfect queue could only reach the
 * limit less the ghosts' time.
 */
import type { Seen } from "./users.ts";

/** One run as recorded by a card; times as in `Seen`. */
export interface CardRun {
  card: string;
  prompt: string | null;
  over: boolean;
  started_at: number;
  ended_at: number | null;
  /** `fault`: it was made to fail by the benchmark. */
  ended: "done" | "ghost" | "stopped" | "fault" | null;
}

export interface CardsSeen {
  runs: CardRun[];
  over: number;
  /** The most at one instant, on one card and on all. */
  highestOnOne: number;
  highest: number;
  slots: number;
}

export interface Figures {
  /** 200 answers per second. */
  okPerSecond: number;
  /** Share of the physical limit. */
  share: number;
  /** Share of the slot time not taken by ghosts that went to callers who were still there. */
  shareOfRest: number;
  /** Share of the slot time in which slots were busy. */
  busy: number;
  /** Share of answers other than 200. */
  errorRate: number;
  errors: number;
  statuses: Record<string, number>;
  /** Of 200 answers, ms. */
  p50: number | null;
  p95: number | null;
  p99: number | null;
  spread: number | null;
  /** Starts that made a card run more than its slots. */
  over: number;
  highestOnOne: number;
  highest: number;
  /** Over the users' numbers of 200 answers. */
  jain: number | null;
  serviceMs: number;
  /** Callers who hung up. */
  left: number;
  /** Runs whose caller had left before they ended. */
  ghosts: number;
  /** Runs that started after their caller had left. */
  startedForNobody: number;
  /** The longest time from a caller's hang-up to the start of its run, ms; 0: no run started after one. */
  latestForNobodyMs: number;
  /** Runs that the sick card failed. */
  failedRuns: number;
  /** Requests of the window that had no answer at its end. */
  open: number;
}

/** A start this soon after the hang-up may have been in flight already, ms. */
const ON_ITS_WAY_MS = 20;

export function figuresOf(seen: Seen, cards: CardsSeen, users: number | null): Figures {
  const windowMs = seen.until - seen.from;
  const good = seen.samples.filter(({ status }) => status === 200);
  const ms = good.map((sample) => sample.ms).toSorted((a, b) => a - b);
  const errors = seen.samples.length - good.length;
  const sound = cards.runs.filter((run) => run.ended !== "fault");
  const ended = sound.filter((run) => run.ended_at !== null && run.ended_at >= seen.from && run.ended_at <= seen.until);
  const serviceMs = mean(ended.map((run) => (run.ended_at ?? 0) - run.started_at));
  const ghosts = sound.filter((run) => leftAt(seen, run) < (run.ended_at ?? seen.until));
  const ghostMs = within(ghosts, seen);
  const slotsMs = cards.slots * windowMs;
  const [p50, p95, p99] = [percentile(ms, 0.5), percentile(ms, 0.95), percentile(ms, 0.99)];
  return {
    okPerSecond: (good.length * 1000) / windowMs,
    share: (good.length * serviceMs) / slotsMs,
    shareOfRest: (within(sound, seen) - ghostMs) / (slotsMs - ghostMs),
    busy: within(cards.runs, seen) / slotsMs,
    errorRate: seen.samples.length === 0 ? 0 : errors / seen.samples.length,
    errors,
    statuses: tally(seen.samples.map(({ status }) => String(status))),
    p50,
    p95,
    p99,
    spread: p50 === null || p99 === null ? null : p99 / p50,
    over: cards.over,
    highestOnOne: cards.highestOnOne,
    highest: cards.highest,
    jain: users === null ? null : jain(perUser(good, users)),
    serviceMs,
    left: seen.left.size,
    ghosts: ghosts.length,
    latestForNobodyMs: Math.max(0, ...ghosts.map((run) => run.started_at - leftAt(seen, run))),
    startedForNobody: ghosts.filter((run) => run.started_at > leftAt(seen, run) + ON_ITS_WAY_MS).length,
    failedRuns: cards.runs.length - sound.length,
    open: seen.open,
  };
}

const leftAt = (seen: Seen, run: CardRun): number => seen.left.get(run.prompt ?? "") ?? Number.POSITIVE_INFINITY;

/** Slot time within the window that the runs took, ms. */
function within(runs: readonly CardRun[], { from, until }: Seen): number {
  let sum = 0;
  for (const { started_at: start, ended_at: end } of runs)
    sum += Math.max(0, Math.min(end ?? until, until) - Math.max(start, from));
  return sum;
}

function perUser(good: Seen["samples"], users: number): number[] {
  const counts = Array.from({ length: users }, () => 0);
  for (const { user } of good) counts[user] = (counts[user] ?? 0) + 1;
  return counts;
}

function tally(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}

/** The value below which `share` of the sorted values lies; null without values. */
export function percentile(sorted: readonly number[], share: number): number | null {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? null;
}

/** Jain's fairness index: 1 when all get the same; null when nobody got anything. */
function jain(values: readonly number[]): number | null {
  const sum = values.reduce((a, b) => a + b, 0);
  const squares = values.reduce((a, b) => a + b * b, 0);
  return squares === 0 ? null : (sum * sum) / (values.length * squares);
}
