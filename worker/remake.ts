/** Rows made anew from what stands beside the bytes in R2; null where that does not say enough. */
import type { AnswerRow, ResultRow } from "./db/queries.ts";
import { visibilityOf } from "./delivery.ts";
import { RESULTS, resultOf } from "./store.ts";

export function resultRowOf(object: R2Object): ResultRow | null {
  const id = object.key.slice(RESULTS.length);
  const { tenant, contentType, bytes, sha256: digest, answer, createdAt, expiresAt } = resultOf(id, object);
  const { service, request, model } = object.customMetadata ?? {};
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
