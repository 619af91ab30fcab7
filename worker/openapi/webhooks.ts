/** Webhooks in the OpenAPI document: the calls that manage them, and the events that receivers get. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { BatchView } from "../jobs/batches.ts";
import { JobView } from "../jobs/view.ts";
import { DeliveriesQuery, DeliveryView, SecretView } from "../jobs/webhooks-api.ts";
import { Named } from "./jobs.ts";
import { COMMON_HEADERS, errors, header, IDEMPOTENCY_KEY, NO_AUTH, TENANT_KEY } from "./parts.ts";

const id = z.object({ id: z.string() });
const Deliveries = z.object({ data: z.array(DeliveryView), next_cursor: z.string().nullable() });

const JobEnded = z
  .object({
    type: z.enum(["job.succeeded", "job.failed", "job.canceled"]),
    timestamp: z.string().meta({ format: "date-time", description: "When it happened." }),
    data: JobView,
  })
  .meta({ id: "JobEnded" });

const BatchEnded = JobEnded.extend({
  type: z.literal("batch.finished"),
  data: BatchView.pick({ id: true, counts: true, jobs: true }),
}).meta({ id: "BatchEnded" });

const SignedHeaders = z.object({
  "webhook-id": z.string().meta({ description: "The same in every attempt to send an event." }),
  "webhook-timestamp": z.string().meta({ description: "When this attempt was sent, seconds since the Unix epoch." }),
  "webhook-signature": z
    .string()
    .meta({ description: "`v1,` and base64; one signature for each secret that is currently valid." }),
});

export function webhookPaths(): ZodOpenApiPathsObject {
  return {
    "/v1/webhooks/secret": { get: getSecret() },
    "/v1/webhooks/secret/rotate": { post: rotateSecret() },
    "/v1/webhooks/deliveries": { get: listDeliveries() },
    "/v1/webhooks/deliveries/{id}": { get: getDelivery() },
    "/v1/webhooks/deliveries/{id}/replay": { post: replayDelivery() },
  };
}

/** The events that are sent to the URL given with a job or batch. */
export function webhookCalls(): ZodOpenApiPathsObject {
  return {
    jobEnded: { post: told("jobEnded", "A job has ended", JobEnded) },
    batchEnded: { post: told("batchEnded", "The last job of a batch has ended", BatchEnded) },
  };
}

function told(operationId: string, summary: string, schema: z.ZodType): ZodOpenApiOperationObject {
  return {
    operationId,
    tags: ["Webhooks"],
    summary,
    description:
      "Standard Webhooks. Without a 2xx answer within 20 s, the event is sent again after about 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, or after `Retry-After` (at most an hour). 410 disables the URL. Redirects are not followed.",
    security: NO_AUTH,
    requestParams: { header: SignedHeaders },
    requestBody: { required: true, content: { "application/json": { schema } } },
    responses: {
      "2XX": { description: "Delivered." },
      410: { description: "Disables this URL for 30 days, or until a replay to it succeeds." },
    },
  };
}

const answer = (description: string, schema: z.ZodType) => ({
  description,
  headers: COMMON_HEADERS,
  content: { "application/json": { schema } },
});

function getSecret(): ZodOpenApiOperationObject {
  return {
    operationId: "getWebhookSecret",
    tags: ["Webhooks"],
    summary: "Get the tenant's webhook signing secret",
    security: TENANT_KEY,
    responses: { 200: answer("The secret.", SecretView), ...errors(401, 403, 429, 500) },
  };
}

function rotateSecret(): ZodOpenApiOperationObject {
  return {
    operationId: "rotateWebhookSecret",
    tags: ["Webhooks"],
    summary: "Replace the secret",
    description: "For a day the previous secret signs too: `webhook-signature` then has one signature for each.",
    security: TENANT_KEY,
    requestParams: { header: Named },
    responses: { 200: answer("The new secret.", SecretView), ...errors(400, 401, 403, 409, 422, 429, 500) },
  };
}

function listDeliveries(): ZodOpenApiOperationObject {
  return {
    operationId: "listWebhookDeliveries",
    tags: ["Webhooks"],
    summary: "List deliveries: pending, delivered and failed",
    description: "Newest first; kept for 30 days.",
    security: TENANT_KEY,
    requestParams: { query: DeliveriesQuery },
    responses: { 200: answer("A page.", Deliveries), ...errors(400, 401, 403, 429, 500) },
  };
}

function getDelivery(): ZodOpenApiOperationObject {
  return {
    operationId: "getWebhookDelivery",
    tags: ["Webhooks"],
    summary: "Get a delivery with its attempts",
    security: TENANT_KEY,
    requestParams: { path: id },
    responses: { 200: answer("The delivery.", DeliveryView), ...errors(401, 403, 404, 429, 500) },
  };
}

function replayDelivery(): ZodOpenApiOperationObject {
  const taken = answer("The new delivery.", DeliveryView);
  return {
    operationId: "replayWebhookDelivery",
    tags: ["Webhooks"],
    summary: "Send an event again",
    description:
      "Creates a new delivery of the same event (`webhook-id` is the same); a delivery that is still pending is sent now instead. A disabled URL is enabled again if the delivery succeeds.",
    security: TENANT_KEY,
    requestParams: { path: id, header: z.object(IDEMPOTENCY_KEY) },
    responses: {
      202: { ...taken, headers: { ...COMMON_HEADERS, Location: header("The new delivery.") } },
      ...errors(400, 401, 403, 404, 409, 422, 429, 500),
    },
  };
}
