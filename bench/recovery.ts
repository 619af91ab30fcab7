/**
 * How a contender recovers from a kill -9, by the users' clocks. Pure.
 *
 * It counts as recovered from the first moment after which BACK_MS of 200 answers reach BACK_SHARE of the rate before
 * the kill.
 */
import type { Sample, Seen } from "./users.ts";

/** Long enough that a single answer hardly changes the share. */
const BACK_MS = 3_000;
const BACK_SHARE = 0.95;
const STEP_MS = 100;
const SECOND_MS = 1_000;

/** Times as returned by `now()`. */
export interface Kill {
  killedAt: number;
  /** When the new process was ready. */
  upAt: number;
}

export interface Recovery {
  /** 200 answers per second from the beginning of the window to the kill. */
  beforePerSecond: number;
  /** 200 answers in each whole second of the window. */
  perSecond: number[];
  /** When the kill was, ms from the beginning of the window. */
  killedMs: number;
  /** From the kill to the new process, ms. */
  upMs: number;
  /** From the kill to the first 200 answer to a request sent after it, ms; null: there was none. */
  firstMs: number | null;
  /** From the kill to recovery, ms; null: not within the window. */
  backMs: number | null;
  /** Answers other than 200 after the kill, including broken connections. */
  errors: number;
}

export function recoveryOf({ from, until, samples }: Seen, { killedAt, upAt }: Kill): Recovery {
  const good = samples.filter(({ status }) => status === 200);
  const before = (good.filter(({ at }) => at < killedAt).length * SECOND_MS) / (killedAt - from);
  const sentAfter = good.filter(({ at, ms }) => at - ms >= killedAt).map(({ at }) => at - killedAt);
  return {
    beforePerSecond: before,
    perSecond: perSecond(good, from, until),
    killedMs: killedAt - from,
    upMs: upAt - killedAt,
    firstMs: sentAfter.length === 0 ? null : Math.min(...sentAfter),
    backMs: backAfter(good, killedAt, until, (before * BACK_SHARE * BACK_MS) / SECOND_MS),
    errors: samples.filter(({ status, at }) => status !== 200 && at >= killedAt).length,
  };
}

function perSecond(good: readonly Sample[], from: number, until: number): number[] {
  const counts = Array.from({ length: Math.floor((until - from) / SECOND_MS) }, () => 0);
  for (const { at } of good) {
    const second = Math.floor((at - from) / SECOND_MS);
    if (second < counts.length) counts[second] = (counts[second] ?? 0) + 1;
  }
  return counts;
}

/** Also null if there were no answers before the kill. */
function backAfter(good: readonly Sample[], killedAt: number, until: number, wanted: number): number | null {
  if (wanted === 0) return null;
  for (let ms = 0; killedAt + ms + BACK_MS <= until; ms += STEP_MS) {
    const start = killedAt + ms;
    if (good.filter(({ at }) => at >= start && at < start + BACK_MS).length >= wanted) return ms;
  }
  return null;
}
