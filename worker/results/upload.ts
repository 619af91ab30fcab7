/**
 * Stores a result that is too large for memory: it is uploaded to R2 in parts while it arrives, and becomes a result
 * when its end is known. R2 metadata is fixed when an upload begins, so the digest is only in the row, which is written
 * first.
 */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { answerKey } from "./stored-answer.ts";
import type { Laid } from "./copy.ts";
import { forgetResults, recordResults, type ResultRow } from "../db/queries.ts";
import { resultIdOf } from "./delivery.ts";
import { PartWriter } from "./part-writer.ts";
import type { Env } from "../env.ts";
import { randomText } from "../caller/keys.ts";
import { pend } from "./pending.ts";
import type { Head } from "./pieces.ts";
import { repeated } from "./repeated.ts";
import { recordSoon } from "./rows.ts";
import {
  answerMeta,
  answerRows,
  type Keeping,
  type Kept,
  LAID_ID_LENGTH,
  NOTHING_KEPT,
  putAnswer,
  resultRow,
} from "../store.ts";
import { resultKey, resultMeta } from "./result.ts";

/** A result being uploaded; its row still lacks the digest and the size. */
export interface ResultUpload {
  row: ResultRow;
  deposit: PartWriter;
}

export function beginUpload(env: Env, keeping: Keeping, { status }: Head, type: string): ResultUpload {
  const { ask, tenant, answer } = keeping;
  const own = answer !== null && status === 200 ? answerKey(tenant, answer.fingerprint) : null;
  const id = resultIdOf(ask.delivery.visibility, randomText(LAID_ID_LENGTH));
  const row = resultRow(keeping, id, { type, bytes: 0, sha256: "" }, own, Date.now());
  const beside = { httpMetadata: { contentType: type }, customMetadata: resultMeta(row) };
  return { row, deposit: new PartWriter(env.RESULTS, resultKey(row.id), beside) };
}

/** Completes the upload, which makes the result visible, and stores the answer that points to it. */
export function completeUpload(
  env: Env,
  keeping: Keeping,
  head: Head,
  { laying: { row, deposit }, bytes, sha256 }: Laid,
): Promise<Kept> {
  const work = write(env, keeping, head, { row: { ...row, bytes, sha256 }, deposit });
  pend([resultKey(row.id), ...(row.answerKey === null ? [] : [row.answerKey])], work);
  return work;
}

async function write(env: Env, keeping: Keeping, head: Head, { row, deposit }: ResultUpload): Promise<Kept> {
  try {
    await withTimeout(repeated(() => recordResults(env, [row], [])));
    await deposit.complete();
  } catch (error) {
    failed(keeping, error);
    await deposit.abort();
    keeping.later(forgetResults(env, row.tenantId, [row.id], []).catch((left: unknown) => failed(keeping, left)));
    return NOTHING_KEPT;
  }
  // Written again: an inventory that ran between the two writes found a row without an object and may have removed it.
  keeping.later(recordSoon(env, [row], []));
  return {
    results: [row],
    answer: row.answerKey !== null && (await putPointer(env, keeping, head, row, row.answerKey)),
  };
}

/** Stores the answer as a pointer to the result's bytes, for the tenant only; other tenants make their own. */
async function putPointer(env: Env, keeping: Keeping, head: Head, row: ResultRow, own: string): Promise<boolean> {
  const now = Date.now();
  const meta = { ...answerMeta(keeping, head, [row.id], now), bulk: resultKey(row.id) };
  const empty = { ...head, bytes: new Uint8Array(0) };
  try {
    await withTimeout(putAnswer(env, keeping.base, own, empty, meta, keeping.answer?.replace === true));
    keeping.later(recordSoon(env, [], answerRows(keeping, { own, shared: null }, empty, meta, now)));
    return true;
  } catch (error) {
    failed(keeping, error);
    return false;
  }
}

function failed({ requestId, ask }: Keeping, error: unknown): void {
  console.error(
    JSON.stringify({ event: "store_failed", request: requestId, service: ask.service.id, error: String(error) }),
  );
}
