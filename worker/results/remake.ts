/** Rebuilds rows from the metadata of R2 objects. Returns null when the metadata is not sufficient. */
import type { AnswerRow, ResultRow } from "../db/queries.ts";
import { visibilityOf } from "./delivery.ts";
import type { Env } from "../env.ts";
import { RESULTS, resultWith } from "./result.ts";

export async function resultRowOf(
  { RESULTS: bucket }: Pick<Env, "RESULTS">,
  object: R2Object,
): Promise<ResultRow | null> {
  const id = object.key.slice(RESULTS.length);
  const { sha256 = "", service, request, model } = object.customMetadata ?? {};
  const digest = sha256 || (await digestOf(bucket, object.key));
  const { tenant, contentType, bytes, answer, createdAt, expiresAt } = resultWith(id, object, digest);
  if (tenant === "" || service === undefined || request === undefined || !(expiresAt > 0)) return null;
  return {
    id,
    tenantId: tenant,
    serviceId: service,
    requestId: request,
    modelVersion: model ?? null,
    contentType,
    bytes,
    sha256: digest,
    visibility: visibilityOf(id),
    answerKey: answer === "" ? null : answer,
    createdAt,
    expiresAt,
  };
}

/** For a result uploaded in parts only the row had the digest, so the object is read again. */
async function digestOf(bucket: R2Bucket, key: string): Promise<string> {
  const object = await bucket.get(key);
  if (object === null) return "";
  const digest = new crypto.DigestStream("SHA-256");
  await object.body.pipeTo(digest);
  return new Uint8Array(await digest.digest).toHex();
}

export function answerRowOf({ key, size, customMetadata }: R2Object): AnswerRow | null {
  const { maker, service, model, storedAt, keptUntil } = customMetadata ?? {};
  if (maker === undefined || service === undefined || !(Number(keptUntil) > 0)) return null;
  return {
    key,
    tenantId: maker,
    serviceId: service,
    modelVersion: model ?? null,
    bytes: size,
    createdAt: Number(storedAt),
    expiresAt: Number(keptUntil),
  };
}
