/** Webhooks in the OpenAPI document: the calls that manage them, and the events that receivers get. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { BatchView } from "../jobs/batches.ts";
import { JobView } from "../jobs/view.ts";
import { DeliveriesQuery, DeliveryView, SecretView } from "../jobs/webhooks-api.ts";
import { COMMON_HEADERS, errors, header, IDEMPOTENCY_KEY, NOBODY, TENANT_KEY } from "./parts.ts";

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
  "webhook-id": z.string().meta({ description: "The same in every sending of an event." }),
  "webhook-timestamp": z.string().meta({ description: "When this was sent, seconds of the epoch." }),
  "webhook-signature": z.string().meta({ description: "`v1,` and base64, once for each secret that signs now." }),
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
      "Standard Webhooks. Anything but 2xx within 20 s is tried again after about 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, or after `Retry-After` (an hour at most). 410 disables the address. Redirects are not followed.",
    security: NOBODY,
    requestParams: { header: SignedHeaders },
    requestBody: { required: true, content: { "application/json": { schema } } },
    responses: { "2XX": { description: "Taken." }, 410: { description: "Nothing more, ever." } },
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
    summary: "The secret that signs webhooks of jobs that brought none",
    security: TENANT_KEY,
    responses: { 200: answer("The secret.", SecretView), ...errors(401, 403, 429, 500) },
  };
}

function rotateSecret(): ZodOpenApiOperationObject {
  return {
    operationId: "rotateWebhookSecret",
    tags: ["Webhooks"],
    summary: "Replace the secret",
    description: "For a day the earlier one signs too: `webhook-signature` then has one signature for each.",
    security: TENANT_KEY,
    responses: { 200: answer("The new secret.", SecretView), ...errors(401, 403, 429, 500) },
  };
}

function listDeliveries(): ZodOpenApiOperationObject {
  return {
    operationId: "listWebhookDeliveries",
    tags: ["Webhooks"],
    summary: "What was sent, what is to be sent, what was given up",
    description: "The latest first; kept for 30 days.",
    security: TENANT_KEY,
    requestParams: { query: DeliveriesQuery },
    responses: { 200: answer("A page.", Deliveries), ...errors(400, 401, 403, 429, 500) },
  };
}

function getDelivery(): ZodOpenApiOperationObject {
  return {
    operationId: "getWebhookDelivery",
    tags: ["Webhooks"],
    summary: "One delivery, with its attempts",
    security: TENANT_KEY,
    requestParams: { path: id },
    responses: { 200: answer("The delivery.", DeliveryView), ...errors(401, 403, 404, 429, 500) },
  };
}

function replayDelivery(): ZodOpenApiOperationObject {
  const taken = answer("The delivery that is made.", DeliveryView);
  return {
    operationId: "replayWebhookDelivery",
    tags: ["Webhooks"],
    summary: "Send an event again",
    description:
      "A new delivery of the same event (`webhook-id` is the same); one that is still pending is sent now instead. An address that was disabled is enabled again if it takes it.",
    security: TENANT_KEY,
    requestParams: { path: id, header: z.object(IDEMPOTENCY_KEY) },
    responses: {
      202: { ...taken, headers: { ...COMMON_HEADERS, Location: header("The new delivery.") } },
      ...errors(400, 401, 403, 404, 409, 422, 429, 500),
    },
  };
}
