/**
 * Stage 7: storage. Writes the finished images and sounds of a complete answer to R2, with a row in D1 for each, and
 * the answer itself when the request is cacheable. Nothing incomplete is ever stored.
 */
import { withTimeout } from "../durable-objects/timeout.ts";
import type { Ask } from "./ask.ts";
import { type AnswerMeta, answerKey } from "./results/stored-answer.ts";
import type { AnswerRow, ResultRow } from "./db/queries.ts";
import type { Env } from "./env.ts";
import { resultIdOf, visibilityOf } from "./results/delivery.ts";
import { forgetEdgeCopy } from "./results/edge.ts";
import { sha256 } from "./fingerprint.ts";
import { randomText } from "./caller/keys.ts";
import { pend } from "./results/pending.ts";
import { type Head, isMedia, type Piece, type Whole } from "./results/pieces.ts";
import { repeated } from "./results/repeated.ts";
import { resultKey, resultMeta } from "./results/result.ts";
import { recordSoon } from "./results/rows.ts";
import { unlessLate } from "./run/until.ts";

/** Random characters in a result id. */
const RESULT_ID_LENGTH = 24;
/** Results uploaded in parts have one more, because a reader must not fetch such an object in one read. */
export const LAID_ID_LENGTH = 25;
/** Longest time an answer waits for its writes and their retries, ms. After that it goes out without results. */
const KEEPING_MS_MAX = 10_000;
/** How much longer late writes are awaited before being undone, ms; the platform ends the request soon after that. */
const LATE_MS_MAX = 15_000;
/** Maximum total length of the origin headers stored with an answer; R2 metadata holds 8 KB in all. */
const HEADERS_LENGTH_MAX = 4_000;

export interface Keeping {
  ask: Ask;
  tenant: string;
  requestId: string;
  /** Our public address, which names the copies at this edge location. */
  base: string;
  /** Keeps work alive that the answer need not wait for. */
  later: (work: Promise<unknown>) => void;
  /** Where the answer itself is stored. Null: only its results are. */
  answer: Answering | null;
}

export interface Answering {
  /** The fingerprint, or `keepAs` when the cache does not store the answer. */
  fingerprint: string;
  shared: boolean;
  replace: boolean;
  /** How long other callers get the answer, and how long it is kept for its maker, ms. */
  ttlMs: number;
  keepMs: number;
}

export interface Kept {
  results: ResultRow[];
  /** Whether the answer itself is stored where identical requests find it. */
  answer: boolean;
}

export const NOTHING_KEPT: Kept = { results: [], answer: false };

/** What is going to be stored, named before it is written to R2. */
export interface Plan {
  /** Ids of the results, one per piece. */
  results: string[];
  /** R2 keys of the answer: the tenant's own, and the shared one. */
  answer: { own: string; shared: string | null } | null;
}

export function plan({ ask, tenant, answer }: Keeping, whole: Whole, found: Piece[]): Plan {
  // Any complete success counts as an answer, even if it contains none of the media types we recognize.
  const isSure = found.length > 0 || (whole.endKnown && !isMedia(whole));
  const stores = answer !== null && whole.status === 200 && isSure;
  const keys = (of: NonNullable<Keeping["answer"]>) => ({
    own: answerKey(tenant, of.fingerprint),
    shared: of.shared ? answerKey("shared", of.fingerprint) : null,
  });
  return {
    results: found.map(() => resultIdOf(ask.delivery.visibility, randomText(RESULT_ID_LENGTH))),
    answer: stores ? keys(answer) : null,
  };
}

function answerKeys({ answer }: Plan): string[] {
  if (answer === null) return [];
  return answer.shared === null ? [answer.own] : [answer.own, answer.shared];
}

/**
 * Stores what was planned and registers the writes as pending, so that readers in this isolate wait for them. What
 * could not be stored is left out of the returned value.
 */
export function keep(env: Env, keeping: Keeping, planned: Plan, whole: Whole, found: Piece[]): Promise<Kept> {
  const work = write(env, keeping, planned, whole, found, Date.now());
  pend([...planned.results.map(resultKey), ...answerKeys(planned)], work);
  return work;
}

/** A store that fails or does not respond costs the caller only a short wait. */
async function write(
  env: Env,
  keeping: Keeping,
  planned: Plan,
  whole: Whole,
  found: Piece[],
  now: number,
): Promise<Kept> {
  const { results, answer } = planned;
  const rows = await Promise.all(
    found.map(async ({ type, bytes }, i) => {
      const made = { type, bytes: bytes.byteLength, sha256: await sha256(bytes) };
      return resultRow(keeping, results[i] as string, made, answer?.own ?? null, now);
    }),
  );
  const meta = answerMeta(keeping, whole, results, now);
  const puts: Promise<unknown>[] = rows.map((row, i) => putResult(env, row, found[i] as Piece));
  const replace = keeping.answer?.replace === true;
  const put = (key: string, beside: AnswerMeta): Promise<void> =>
    putAnswer(env, keeping.base, key, whole, beside, replace);
  if (answer !== null) puts.push(put(answer.own, meta));
  // A shared answer names no results: the first reader of each tenant makes results of its own from it.
  if (answer !== null && answer.shared !== null) puts.push(put(answer.shared, { ...meta, results: "" }));
  try {
    await withTimeout(Promise.all(puts), KEEPING_MS_MAX);
    keeping.later(recordSoon(env, rows, answer === null ? [] : answerRows(keeping, answer, whole, meta, now)));
    return { results: rows, answer: answer !== null };
  } catch (error) {
    const of = { request: keeping.requestId, service: keeping.ask.service.id };
    console.error(JSON.stringify({ event: "store_failed", ...of, error: String(error) }));
    keeping.later(takeBack(env, puts, planned, meta));
    return NOTHING_KEPT;
  }
}

/**
 * Deletes what was written, including late writes: it was not promised to anybody and has no rows, and a stored answer
 * must not name results that do not exist. What survives even this is an orphan that `verify` finds.
 */
async function takeBack(
  env: Env,
  puts: Promise<unknown>[],
  planned: Plan,
  { maker, storedAt }: AnswerMeta,
): Promise<void> {
  try {
    await unlessLate(Promise.allSettled(puts), Date.now() + LATE_MS_MAX);
    // Another run's answer may have been stored under this key before.
    const isOurs = async (key: string): Promise<boolean> => {
      const beside = (await withTimeout(env.RESULTS.head(key)))?.customMetadata;
      return beside?.["maker"] === maker && beside["storedAt"] === storedAt;
    };
    const answers = answerKeys(planned);
    const ours = await Promise.all(answers.map(isOurs));
    await withTimeout(env.RESULTS.delete([...planned.results.map(resultKey), ...answers.filter((_, i) => ours[i])]));
  } catch (error) {
    console.error(JSON.stringify({ event: "store_not_deleted", ...planned, error: String(error) }));
  }
}

export function resultRow(
  keeping: Keeping,
  id: string,
  { type, bytes, sha256: digest }: { type: string; bytes: number; sha256: string },
  answer: string | null,
  now: number,
): ResultRow {
  const { service } = keeping.ask;
  return {
    id,
    tenantId: keeping.tenant,
    serviceId: service.id,
    requestId: keeping.requestId,
    modelVersion: service.config.model_version,
    contentType: type,
    bytes,
    sha256: digest,
    visibility: visibilityOf(id),
    answerKey: answer,
    createdAt: now,
    expiresAt: now + keeping.ask.delivery.lifeMs,
  };
}

export function answerMeta(keeping: Keeping, whole: Head, results: string[], now: number): AnswerMeta {
  const headers = JSON.stringify([...whole.headers]);
  const { service, delivery } = keeping.ask;
  // An answer that names results expires with them.
  const lifeMs = results.length > 0 ? delivery.lifeMs : Infinity;
  const { ttlMs = 0, keepMs = 0 } = keeping.answer ?? {};
  return {
    status: String(whole.status),
    results: results.join(","),
    storedAt: String(now),
    expiresAt: String(now + Math.min(ttlMs, lifeMs)),
    keptUntil: String(now + Math.min(Math.max(ttlMs, keepMs), lifeMs)),
    maker: keeping.tenant,
    service: service.id,
    ...(service.config.model_version === null ? {} : { model: service.config.model_version }),
    headers:
      headers.length <= HEADERS_LENGTH_MAX
        ? headers
        : JSON.stringify([["content-type", whole.headers.get("content-type") ?? ""]]),
  };
}

export function answerRows(
  { ask: { service }, tenant }: Keeping,
  { own, shared }: NonNullable<Plan["answer"]>,
  whole: Whole,
  meta: AnswerMeta,
  now: number,
): AnswerRow[] {
  const row: AnswerRow = {
    key: own,
    tenantId: tenant,
    serviceId: service.id,
    modelVersion: service.config.model_version,
    bytes: whole.bytes.byteLength,
    createdAt: now,
    expiresAt: Number(meta.keptUntil),
  };
  return shared === null ? [row] : [row, { ...row, key: shared }];
}

async function putResult(env: Env, row: ResultRow, piece: Piece): Promise<void> {
  await repeated(() =>
    env.RESULTS.put(resultKey(row.id), piece.bytes, {
      httpMetadata: { contentType: piece.type },
      customMetadata: resultMeta(row),
      // R2 refuses the write when the received bytes have another hash.
      sha256: row.sha256,
    }),
  );
}

/** Create-once: replaces a stored answer only when the caller asked for a new run or the old one has expired. */
export async function putAnswer(
  env: Env,
  base: string,
  key: string,
  whole: Whole,
  meta: AnswerMeta,
  replace: boolean,
): Promise<void> {
  await repeated(() =>
    env.RESULTS.put(key, whole.bytes, {
      customMetadata: { ...meta },
      ...(replace ? {} : { onlyIf: { etagDoesNotMatch: "*" } }),
    }),
  );
  if (replace) await forgetEdgeCopy(base, key);
}
