/**
 * The rows of what lies in R2, written together: under load one D1 call serves many requests. They are for lists and
 * ageing alone (everything that a reader needs stands beside the bytes in R2), so what an isolate's end forgets of them
 * costs nobody an answer.
 */
import { type AnswerRow, recordResults, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { repeated } from "./repeated.ts";

/** Rows wait so long for others. */
const SOON_MS = 250;
/** Most requests whose rows are written together. */
const REQUESTS_MAX = 200;
/** A batch that is not written by then lost the request that was to write it. */
const LOST_MS = 5_000;

interface Batch {
  results: ResultRow[];
  answers: AnswerRow[];
  requests: number;
  openedAt: number;
  /** Its rows are being written: what came to it now would be forgotten. Clocks do not tell; a timer may fire early. */
  closed: boolean;
  written: Promise<void>;
}

/** Batches that are not written yet, the last one open. A belief: the rows' truth is D1. */
const batches = new Set<Batch>();

/** Ends when the rows are written, or will not be by this request's batch; a failure is logged. */
export async function recordSoon(env: Env, results: ResultRow[], answers: AnswerRow[]): Promise<void> {
  if (results.length + answers.length === 0) return;
  const now = Date.now();
  const batch = [...batches].at(-1);
  const fits = batch?.closed === false && batch.requests < REQUESTS_MAX && now - batch.openedAt < SOON_MS;
  const mine = fits ? batch : open(env, now);
  mine.results.push(...results);
  mine.answers.push(...answers);
  mine.requests++;
  await Promise.race([mine.written, scheduler.wait(LOST_MS)]);
}

/** What other isolates have made by now has its rows, ms. */
const ELSEWHERE_MS = SOON_MS + 150;

/** Waits for what is on its way, from anywhere, as far as can be known. */
export async function allRecorded(): Promise<void> {
  await Promise.all([recorded(), scheduler.wait(ELSEWHERE_MS)]);
}

/** Waits for what is on its way here: a row that came after its deletion would never go. */
export async function recorded(): Promise<void> {
  await Promise.race([Promise.all(Array.from(batches, (batch) => batch.written)), scheduler.wait(LOST_MS)]);
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
  // Whoever was to write them is gone: rows are written twice rather than never.
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
