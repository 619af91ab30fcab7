/** A finished image or sound as it lies in R2, and what stands beside its bytes there. */
import { answered } from "../../durable-objects/answer-protocol.ts";
import { resultDigest, type ResultRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { settled } from "./pending.ts";

/** Results looked up at once; one answer holds no more. */
const RESULTS_MAX = 64;

/** Where results lie in R2. */
export const RESULTS = "results/";
export const resultKey = (id: string) => RESULTS + id;
export const isLaid = (id: string) => /(?:^|_)[0-9A-Za-z]{25}$/.test(id);

/**
 * What stands beside a result's bytes: a reader needs one look at R2 and, but for the largest, nothing else, and a lost
 * row is made anew from it.
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

/** A result as it lies in R2. */
export interface Result {
  id: string;
  tenant: string;
  contentType: string;
  bytes: number;
  /** Hex. */
  sha256: string;
  /** R2 key of the tenant's stored answer that held it when it was made; empty when there was none. */
  answer: string;
  createdAt: number;
  expiresAt: number;
}

/** Null while it has no digest: then it is no result yet. */
export async function resultOf(env: Env, id: string, object: R2Object): Promise<Result | null> {
  const meta = object.customMetadata ?? {};
  // What was laid down in parts has it in its row alone.
  const digest = meta["sha256"] || (await resultDigest(env, id));
  return digest === null ? null : resultWith(id, object, digest);
}

/** `digest`: hex, of its bytes. */
export function resultWith(id: string, object: R2Object, digest: string): Result {
  const meta = object.customMetadata ?? {};
  return {
    id,
    tenant: meta["tenant"] ?? "",
    contentType: object.httpMetadata?.contentType ?? "application/octet-stream",
    bytes: object.size,
    sha256: digest,
    answer: meta["answer"] ?? "",
    createdAt: Number(meta["createdAt"]),
    expiresAt: Number(meta["expiresAt"]),
  };
}

/** Those of a tenant's results that are there, in the order asked. */
export async function resultsOf(env: Env, tenant: string, ids: string[]): Promise<Result[]> {
  const found = await Promise.all(
    ids.slice(0, RESULTS_MAX).map(async (id) => {
      await settled(resultKey(id));
      const object = await answered(env.RESULTS.head(resultKey(id)));
      return object === null ? null : resultOf(env, id, object);
    }),
  );
  return found.filter((result) => result !== null && result.tenant === tenant) as Result[];
}
