/**
 * Stage 7: keep it. The finished images and sounds of a complete answer go to R2, with a row in D1 for each; the answer
 * of a cacheable request beside them. Nothing incomplete is ever kept.
 */
import { answered } from "../durable-objects/answer-protocol.ts";
import type { Ask } from "./ask.ts";
import { type AnswerMeta, answerKey } from "./cache.ts";
import type { AnswerRow, ResultRow } from "./db/queries.ts";
import type { Env } from "./env.ts";
import { resultIdOf, visibilityOf } from "./results/delivery.ts";
import { forgetNear } from "./results/edge.ts";
import { sha256 } from "./fingerprint.ts";
import { randomText } from "./caller/keys.ts";
import { pend } from "./results/pending.ts";
import { type Head, isMedia, type Piece, type Whole } from "./results/pieces.ts";
import { repeated } from "./results/repeated.ts";
import { resultKey, resultMeta } from "./results/result.ts";
import { recordSoon } from "./results/rows.ts";
import { unlessLate } from "./run/until.ts";

/** Of its random characters. */
const RESULT_ID_LENGTH = 24;
/** One that was laid down in parts has one more: whoever reads it must not ask for all of it at once. */
export const LAID_ID_LENGTH = 25;
/** Longest that an answer waits for its keeping, repeats included, ms: what is not there by then is not promised. */
const KEEPING_MS_MAX = 10_000;
/** So long after that writes are waited for before what they wrote is taken back, ms: the platform ends them soon after. */
const LATE_MS_MAX = 15_000;
/** Handed-on headers of an answer are kept up to this length; R2 metadata holds 8 KB in all. */
const HEADERS_LENGTH_MAX = 4_000;

export interface Keeping {
  ask: Ask;
  tenant: string;
  requestId: string;
  /** Our public address: copies at this edge location are named by it. */
  base: string;
  /** Holds work that the answer need not wait for. */
  later: (work: Promise<unknown>) => void;
  /** Where the answer itself is kept; null: only its results are. */
  answer: Answering | null;
}

export interface Answering {
  /** Or what stands in its place where no cache keeps the answer. */
  fingerprint: string;
  shared: boolean;
  replace: boolean;
  /** How long others get it, and how long it is kept for who made it, ms. */
  ttlMs: number;
  keepMs: number;
}

export interface Kept {
  results: ResultRow[];
  /** The answer itself is stored. */
  answer: boolean;
}

export const NOTHING_KEPT: Kept = { results: [], answer: false };

/** What is going to be kept, named before it lies in R2. */
export interface Plan {
  /** Ids of the results, one for each piece. */
  results: string[];
  /** R2 keys of the answer: the tenant's own, and the shared one. */
  answer: { own: string; shared: string | null } | null;
}

export function plan({ ask, tenant, answer }: Keeping, whole: Whole, found: Piece[]): Plan {
  // Any complete success is an answer; what stands in it may be none of the pieces we know.
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

/** Keeps what is planned, and lets readers of this isolate know. What could not be kept is left out. */
export function keep(env: Env, keeping: Keeping, planned: Plan, whole: Whole, found: Piece[]): Promise<Kept> {
  const work = write(env, keeping, planned, whole, found, Date.now());
  pend([...planned.results.map(resultKey), ...answerKeys(planned)], work);
  return work;
}

/** A store that fails, or says nothing, costs the answer's caller nothing but a moment. */
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
  // A shared answer names nobody's results: who uses it first makes his own of it.
  if (answer !== null && answer.shared !== null) puts.push(put(answer.shared, { ...meta, results: "" }));
  try {
    await answered(Promise.all(puts), KEEPING_MS_MAX);
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
 * What was written of it goes again, also what comes late: nobody was promised it, it gets no rows, and a stored answer
 * must not name results that are not there. What outlives even this is an orphan, for `verify` to find.
 */
async function takeBack(
  env: Env,
  puts: Promise<unknown>[],
  planned: Plan,
  { maker, storedAt }: AnswerMeta,
): Promise<void> {
  try {
    await unlessLate(Promise.allSettled(puts), Date.now() + LATE_MS_MAX);
    // Another run's answer may have been there before.
    const isOurs = async (key: string): Promise<boolean> => {
      const beside = (await answered(env.RESULTS.head(key)))?.customMetadata;
      return beside?.["maker"] === maker && beside["storedAt"] === storedAt;
    };
    const answers = answerKeys(planned);
    const ours = await Promise.all(answers.map(isOurs));
    await answered(env.RESULTS.delete([...planned.results.map(resultKey), ...answers.filter((_, i) => ours[i])]));
  } catch (error) {
    console.error(JSON.stringify({ event: "store_left", ...planned, error: String(error) }));
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
  // An answer that names results ends with them.
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
      // R2 refuses the write when the bytes it got are not these.
      sha256: row.sha256,
    }),
  );
}

/** Create-once: an answer is never replaced but by a caller who asked for a new run, or when it has expired. */
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
  if (replace) await forgetNear(base, key);
}
