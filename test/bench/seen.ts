/** Made-up observations of users and cards. */
import fc from "fast-check";
import type { CardRun, CardsSeen } from "../../bench/figures.ts";
import type { Sample, Seen } from "../../bench/users.ts";

export const FROM = 1_000_000;
export const UNTIL = FROM + 10_000;

export const seenOf = (samples: Sample[], more: Partial<Seen> = {}): Seen => ({
  from: FROM,
  until: UNTIL,
  samples,
  left: new Map(),
  open: 0,
  ...more,
});

export const sampleOf = (more: Partial<Sample> = {}): Sample => ({
  user: 0,
  at: FROM + 5_000,
  ms: 300,
  status: 200,
  ...more,
});

export const runOf = (startedAt: number, endedAt: number | null, more: Partial<CardRun> = {}): CardRun => ({
  card: "gpu-01-0",
  prompt: null,
  over: false,
  started_at: startedAt,
  ended_at: endedAt,
  ended: endedAt === null ? null : "done",
  ...more,
});

export const cardsOf = (runs: CardRun[], more: Partial<CardsSeen> = {}): CardsSeen => ({
  runs,
  over: 0,
  highestOnOne: 2,
  highest: 12,
  slots: 12,
  ...more,
});

/** A slot that is busy from before the window until after it: consecutive runs of random length. */
export const busySlot: fc.Arbitrary<CardRun[]> = fc
  .tuple(fc.integer({ min: 0, max: 400 }), fc.array(fc.integer({ min: 100, max: 900 }), { minLength: 110 }))
  .map(([before, lengths]) => {
    const runs: CardRun[] = [];
    let at = FROM - before;
    for (const length of lengths) {
      if (at >= UNTIL) break;
      runs.push(runOf(at, at + length));
      at += length;
    }
    return runs;
  });
