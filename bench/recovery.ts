/**
 * How somebody came back after a kill -9, by the users' clocks. Pure.
 *
 * It is back at the first moment from which on the answers 200 of BACK_MS came at BACK_SHARE of the rate before.
 */
import type { Sample, Seen } from "./users.ts";

/** Long enough that one answer more or less makes little of a share. */
const BACK_MS = 3_000;
const BACK_SHARE = 0.95;
const STEP_MS = 100;
const SECOND_MS = 1_000;

/** Times of `now()`. */
export interface Kill {
  killedAt: number;
  /** When the new process was ready. */
  upAt: number;
}

export interface Recovery {
  /** Answers 200 a second from the window's beginning to the kill. */
  beforePerSecond: number;
  /** Answers 200 in each whole second of the window. */
  perSecond: number[];
  /** Where in the window the kill was, ms. */
  killedMs: number;
  /** From the kill to the new process, ms. */
  upMs: number;
  /** From the kill to the first request answered with 200 that was sent after it, ms; null: there was none. */
  firstMs: number | null;
  /** From the kill until it was back, ms; null: it was not within the window. */
  backMs: number | null;
  /** Answers other than 200, connections that broke among them, after the kill. */
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

/** Null as well where there was nothing to come back to. */
function backAfter(good: readonly Sample[], killedAt: number, until: number, wanted: number): number | null {
  if (wanted === 0) return null;
  for (let ms = 0; killedAt + ms + BACK_MS <= until; ms += STEP_MS) {
    const start = killedAt + ms;
    if (good.filter(({ at }) => at >= start && at < start + BACK_MS).length >= wanted) return ms;
  }
  return null;
}
