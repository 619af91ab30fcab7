/**
 * Stage 7: keep it. Takes the finished images and sounds out of a complete answer and keeps them in R2, with a row
 * in D1 for each; the answer of a cacheable request beside them. Nothing incomplete is ever kept.
 */
import type { Ask } from "./ask.ts";
import { isJson } from "./ask.ts";
import { type AnswerMeta, answerKey } from "./cache.ts";
import { type AnswerRow, recordResults, type ResultRow } from "./db/queries.ts";
import type { Env } from "./env.ts";
import { sha256 } from "./fingerprint.ts";
import { randomText } from "./keys.ts";
import { fromBase64, media } from "./media.ts";

/** Tries of one write, and the pause between them. */
const WRITE_TRIES = 3;
const WRITE_PAUSE_MS = 100;
const RESULT_ID_LENGTH = 24;
const DAY_MS = 86_400_000;
/** Results looked up at once; one answer holds no more. */
const RESULTS_MAX = 64;
/** Handed-on headers of an answer are kept up to this length; R2 metadata holds 8 KB in all. */
const HEADERS_LENGTH_MAX = 4_000;

/** A complete answer of an origin. */
export interface Whole {
  status: number;
  headers: Headers;
  bytes: Uint8Array<ArrayBuffer>;
  /** The transport said where the body ends (a length or chunks). */
  endKnown: boolean;
}

export interface Piece {
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** The finished images and sounds in an answer, or why the answer is not valid. */
export function pieces(ask: Ask, whole: Whole): Piece[] | { problem: string } {
  if (whole.status < 200 || whole.status >= 300) return [];
  const type = whole.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? null;
  const { kind } = ask.service.config;
  if (isJson(type)) return jsonPieces(kind, whole.bytes);
  if (kind === "image" && ask.as === "run" && !type?.startsWith("image/"))
    return { problem: "it is neither JSON nor an image" };
  if (type === null || !/^(image|audio)\//.test(type)) return [];
  const found = media(whole.bytes);
  if (found?.end === "cut") return { problem: `its ${found.type} is damaged` };
  if (found === null && kind === "image" && ask.as === "run") return { problem: "it is not an image" };
  // Its own structure or the transport must say that this is all of it.
  if (found?.end !== "whole" && !whole.endKnown) return [];
  return [{ type: found?.type ?? type, bytes: whole.bytes }];
}

/** A WebUI answers JSON with its images in base64. */
function jsonPieces(kind: string, bytes: Uint8Array): Piece[] | { problem: string } {
  let answer: unknown;
  try {
    answer = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch {
    return { problem: "its JSON is damaged" };
  }
  const images = (answer as { images?: unknown } | null)?.images;
  if (kind !== "image" || !Array.isArray(images)) return [];
  const found: Piece[] = [];
  for (const image of images) {
    const decoded = typeof image === "string" ? fromBase64(image) : null;
    const kindOf = decoded === null ? null : media(decoded);
    if (decoded === null || kindOf === null || kindOf.end !== "whole") return { problem: "an image in it is damaged" };
    found.push({ type: kindOf.type, bytes: decoded });
  }
  return found;
}

export interface Keeping {
  ask: Ask;
  tenant: string;
  requestId: string;
  /** Holds work that the answer need not wait for. */
  later: (work: Promise<unknown>) => void;
  /** Where the answer itself is kept; null: only its results are. */
  answer: { fingerprint: string; shared: boolean; replace: boolean } | null;
}

export interface Kept {
  results: ResultRow[];
  /** The answer is stored, with what stands beside it; null when it is not. */
  answer: { key: string; meta: AnswerMeta } | null;
}

/** Keeps results and answer. A store that fails costs the answer's caller nothing: what could not be kept is left out. */
export async function keep(env: Env, keeping: Keeping, whole: Whole, found: Piece[], now: number): Promise<Kept> {
  const { service } = keeping.ask;
  const own = keeping.answer === null ? null : answerKey(keeping.tenant, keeping.answer.fingerprint);
  const rows = await Promise.all(found.map((piece) => resultRow(keeping, piece, own, now)));
  try {
    const meta = answerMeta(keeping, whole, rows, now);
    const writes: Promise<unknown>[] = rows.map((row, i) => putResult(env, row, found[i] as Piece));
    // Any complete success is an answer; what stands in it may be none of the pieces we know.
    const stores = own !== null && whole.status === 200 && (whole.endKnown || found.length > 0);
    if (stores && own !== null) writes.push(putAnswer(env, own, whole, meta, keeping.answer?.replace === true));
    if (stores && keeping.answer?.shared) {
      const shared = { ...meta, results: "" };
      writes.push(
        putAnswer(env, answerKey("shared", keeping.answer.fingerprint), whole, shared, keeping.answer.replace),
      );
    }
    await Promise.all(writes);
    const entries = stores && own !== null ? answerRows(keeping, own, whole, meta, now) : [];
    keeping.later(recordRows(env, rows, entries));
    return { results: rows, answer: stores && own !== null ? { key: own, meta } : null };
  } catch (error) {
    console.error(
      JSON.stringify({ event: "store_failed", request: keeping.requestId, service: service.id, error: String(error) }),
    );
    return { results: [], answer: null };
  }
}

/** The rows are for lists and ageing alone: everything that a reader needs stands beside the bytes in R2. */
async function recordRows(env: Env, rows: ResultRow[], kept: AnswerRow[]): Promise<void> {
  try {
    await repeated(() => recordResults(env, rows, kept));
  } catch (error) {
    console.error(JSON.stringify({ event: "rows_lost", results: rows.map((row) => row.id), error: String(error) }));
  }
}

async function resultRow(keeping: Keeping, piece: Piece, answer: string | null, now: number): Promise<ResultRow> {
  const { service } = keeping.ask;
  return {
    id: randomText(RESULT_ID_LENGTH),
    tenantId: keeping.tenant,
    serviceId: service.id,
    requestId: keeping.requestId,
    modelVersion: service.config.model_version,
    contentType: piece.type,
    bytes: piece.bytes.byteLength,
    sha256: await sha256(piece.bytes),
    visibility: "signed",
    answerKey: answer,
    createdAt: now,
    expiresAt: now + service.config.results.keep_days * DAY_MS,
  };
}

function answerMeta(keeping: Keeping, whole: Whole, rows: ResultRow[], now: number): AnswerMeta {
  const headers = JSON.stringify([...whole.headers]);
  return {
    status: String(whole.status),
    results: rows.map((row) => row.id).join(","),
    storedAt: String(now),
    expiresAt: String(now + keeping.ask.service.config.cache.ttl_s * 1000),
    maker: keeping.tenant,
    headers:
      headers.length <= HEADERS_LENGTH_MAX
        ? headers
        : JSON.stringify([["content-type", whole.headers.get("content-type") ?? ""]]),
  };
}

function answerRows(keeping: Keeping, own: string, whole: Whole, meta: AnswerMeta, now: number): AnswerRow[] {
  const { service } = keeping.ask;
  const row: AnswerRow = {
    key: own,
    tenantId: keeping.tenant,
    serviceId: service.id,
    modelVersion: service.config.model_version,
    bytes: whole.bytes.byteLength,
    createdAt: now,
    expiresAt: Number(meta.expiresAt),
  };
  if (!keeping.answer?.shared) return [row];
  return [row, { ...row, key: answerKey("shared", keeping.answer.fingerprint) }];
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
async function putAnswer(env: Env, key: string, whole: Whole, meta: AnswerMeta, replace: boolean): Promise<void> {
  await repeated(() =>
    env.RESULTS.put(key, whole.bytes, {
      customMetadata: { ...meta },
      ...(replace ? {} : { onlyIf: { etagDoesNotMatch: "*" } }),
    }),
  );
}

export const resultKey = (id: string) => `results/${id}`;

/** What stands beside a result's bytes, so that a reader needs one look at R2 and nothing else. */
function resultMeta(row: ResultRow): Record<string, string> {
  const { tenantId, sha256: digest, visibility, answerKey: answer, createdAt, expiresAt } = row;
  return {
    tenant: tenantId,
    sha256: digest,
    visibility,
    answer: answer ?? "",
    createdAt: String(createdAt),
    expiresAt: String(expiresAt),
  };
}

/** A result as it lies in R2. */
export interface Result {
  id: string;
  tenant: string;
  contentType: string;
  bytes: number;
  /** Hex. */
  sha256: string;
  visibility: string;
  /** R2 key of the tenant's stored answer that held it when it was made; empty when there was none. */
  answer: string;
  createdAt: number;
  expiresAt: number;
}

export function resultOf(id: string, object: R2Object): Result {
  const meta = object.customMetadata ?? {};
  return {
    id,
    tenant: meta["tenant"] ?? "",
    contentType: object.httpMetadata?.contentType ?? "application/octet-stream",
    bytes: object.size,
    sha256: meta["sha256"] ?? "",
    visibility: meta["visibility"] ?? "private",
    answer: meta["answer"] ?? "",
    createdAt: Number(meta["createdAt"]),
    expiresAt: Number(meta["expiresAt"]),
  };
}

/** Those of a tenant's results that are there, in the order asked. */
export async function resultsOf(env: Env, tenant: string, ids: string[]): Promise<Result[]> {
  const objects = await Promise.all(ids.slice(0, RESULTS_MAX).map((id) => env.RESULTS.head(resultKey(id))));
  const found = objects.map((object, i) => (object === null ? null : resultOf(ids[i] ?? "", object)));
  return found.filter((result) => result !== null && result.tenant === tenant) as Result[];
}

/** A write with its repeats; the last failure is the caller's. */
async function repeated<T>(write: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await write();
    } catch (error) {
      if (tries === WRITE_TRIES) throw error;
      await scheduler.wait(WRITE_PAUSE_MS * tries);
    }
  }
}
