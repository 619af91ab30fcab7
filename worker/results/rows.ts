/**
 * Writes D1 rows of R2 objects in batches, so that under load one D1 call serves many requests. The rows are only used
 * for lists and ageing, since a reader finds what it needs in the R2 metadata. So no answer is lost with rows that an
 * isolate loses when it ends.
 */
import { shortly } from "../../durable-objects/timeout.ts";
import { type AnswerRow, recordResults, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { repeated } from "./repeated.ts";

/** How long a batch collects rows. */
const SOON_MS = 250;
/** Maximum requests per batch. */
const REQUESTS_MAX = 200;
/** A batch not written by then has lost the request that was going to write it. */
const LOST_MS = 5_000;

interface Batch {
  results: ResultRow[];
  answers: AnswerRow[];
  requests: number;
  openedAt: number;
  /** Writing has begun: rows added now would be lost. A flag rather than the clock, because a timer may fire early. */
  closed: boolean;
  written: Promise<void>;
}

/** Unwritten batches, the last one open. Only a buffer: D1 is the source of truth. */
const batches = new Set<Batch>();

/** Resolves when the rows are written, or after LOST_MS. Failures are logged, not thrown. */
export async function recordSoon(env: Env, results: ResultRow[], answers: AnswerRow[]): Promise<void> {
  if (results.length + answers.length === 0) return;
  const now = Date.now();
  const batch = [...batches].at(-1);
  const fits = batch?.closed === false && batch.requests < REQUESTS_MAX && now - batch.openedAt < SOON_MS;
  const mine = fits ? batch : open(env, now);
  mine.results.push(...results);
  mine.answers.push(...answers);
  mine.requests++;
  await shortly(mine.written, LOST_MS);
}

/** By then, other isolates have written the rows of everything made before, ms. */
const ELSEWHERE_MS = SOON_MS + 150;

/** Waits for unwritten rows of all isolates, as far as that can be known. */
export async function allRecorded(): Promise<void> {
  await Promise.all([recorded(), scheduler.wait(ELSEWHERE_MS)]);
}

/** Waits for this isolate's unwritten rows: a row written after its object was deleted would never go away. */
export async function recorded(): Promise<void> {
  await shortly(Promise.all(Array.from(batches, (batch) => batch.written)), LOST_MS);
}

function open(env: Env, now: number): Batch {
  const batch: Batch = {
    results: [],
    answers: [],
    requests: 0,
    openedAt: now,
    closed: false,
    written: Promise.resolve(),
  };
  // The request that was going to write them is gone. Writing rows twice is better than never.
  for (const lost of batches) {
    if (now - lost.openedAt < LOST_MS) continue;
    batches.delete(lost);
    batch.results.push(...lost.results);
    batch.answers.push(...lost.answers);
  }
  batches.add(batch);
  batch.written = write(env, batch);
  return batch;
}

async function write(env: Env, batch: Batch): Promise<void> {
  await scheduler.wait(SOON_MS);
  batch.closed = true;
  try {
    await repeated(() => recordResults(env, batch.results, batch.answers));
  } catch (error) {
    const ids = batch.results.map((row) => row.id);
    console.error(JSON.stringify({ event: "rows_lost", results: ids, error: String(error) }));
  } finally {
    batches.delete(batch);
  }
}
