/** A finished image or sound in R2, and its metadata. */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { resultDigest, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { settled } from "./pending.ts";

/** Maximum results looked up at once; no answer holds more. */
const RESULTS_MAX = 64;

/** R2 prefix of results. */
export const RESULTS = "results/";
export const resultKey = (id: string) => RESULTS + id;
export const isLaid = (id: string) => /(?:^|_)[0-9A-Za-z]{25}$/.test(id);

/**
 * R2 metadata of a result. A reader needs only this, except that a large result's digest is in its row; a lost row can
 * be rebuilt from it.
 */
export function resultMeta(row: ResultRow): Record<string, string> {
  const { tenantId, sha256: digest, answerKey: answer, createdAt, expiresAt } = row;
  return {
    tenant: tenantId,
    service: row.serviceId,
    request: row.requestId,
    ...(row.modelVersion === null ? {} : { model: row.modelVersion }),
    sha256: digest,
    answer: answer ?? "",
    createdAt: String(createdAt),
    expiresAt: String(expiresAt),
  };
}

/** A result as stored in R2. */
export interface Result {
  id: string;
  tenant: string;
  service: string;
  contentType: string;
  bytes: number;
  /** Hex. */
  sha256: string;
  /** R2 key of the tenant's stored answer that contained it when it was made; empty when there was none. */
  answer: string;
  createdAt: number;
  expiresAt: number;
}

/** Returns null when there is no digest: then it is not a result yet. */
export async function resultOf(env: Env, id: string, object: R2Object): Promise<Result | null> {
  const meta = object.customMetadata ?? {};
  // For a result uploaded in parts, only the row has the digest.
  const digest = meta["sha256"] || (await resultDigest(env, id));
  return digest === null ? null : resultWith(id, object, digest);
}

/** `digest`: SHA-256 of its bytes, hex. */
export function resultWith(id: string, object: R2Object, digest: string): Result {
  const meta = object.customMetadata ?? {};
  return {
    id,
    tenant: meta["tenant"] ?? "",
    service: meta["service"] ?? "",
    contentType: object.httpMetadata?.contentType ?? "application/octet-stream",
    bytes: object.size,
    sha256: digest,
    answer: meta["answer"] ?? "",
    createdAt: Number(meta["createdAt"]),
    expiresAt: Number(meta["expiresAt"]),
  };
}

/** Returns those of these results that exist. */
export async function existing(env: Env, ids: string[]): Promise<string[]> {
  const found = await Promise.all(
    ids.map(async (id) => {
      await settled(resultKey(id));
      return (await withTimeout(env.RESULTS.head(resultKey(id)))) === null ? [] : [id];
    }),
  );
  return found.flat();
}

/** The tenant's results that exist, in the order of `ids`. */
export async function resultsOf(env: Env, tenant: string, ids: string[]): Promise<Result[]> {
  const found = await Promise.all(
    ids.slice(0, RESULTS_MAX).map(async (id) => {
      await settled(resultKey(id));
      const object = await withTimeout(env.RESULTS.head(resultKey(id)));
      return object === null ? null : resultOf(env, id, object);
    }),
  );
  return found.filter((result) => result !== null && result.tenant === tenant) as Result[];
}
