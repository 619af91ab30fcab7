/** Jobs and batches in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { ListQuery, WaitQuery } from "../jobs/api.ts";
import { BatchCreate, BatchView, JOBS_MAX } from "../jobs/batches.ts";
import { JobCreate } from "../jobs/draft.ts";
import { JobView } from "../jobs/view.ts";
import { COMMON_HEADERS, errors, IDEMPOTENCY_KEY, JOB_HEADERS, TENANT_KEY } from "./parts.ts";

const id = z.object({ id: z.string() });
const tags = ["Jobs"];
const security = TENANT_KEY;
export const Named = z.object(IDEMPOTENCY_KEY);
/** Any JSON, without the refinement of the validating schema. */
const input = z.unknown().meta({ description: "The body that the service's own route would get." });
const JobAsk = JobCreate.extend({ input });
const BatchAsk = BatchCreate.extend({ jobs: z.array(JobAsk).min(1).max(JOBS_MAX) });

const json = (schema: z.ZodType) => ({ "application/json": { schema } });

export function jobPaths(): ZodOpenApiPathsObject {
  return {
    "/v1/jobs": { post: createJob(), get: listJobs() },
    "/v1/jobs/{id}": { get: getJob() },
    "/v1/jobs/{id}/cancel": { post: cancelJob() },
    "/v1/jobs/{id}/events": { get: jobEvents() },
    "/v1/batches": { post: createBatch() },
    "/v1/batches/{id}": { get: getBatch() },
  };
}

function createJob(): ZodOpenApiOperationObject {
  return {
    operationId: "createJob",
    tags,
    summary: "Submit a job",
    description:
      "The job runs when a card is free, is retried up to three times if a retry can help, and sends a webhook when it has ended. A service's own route makes a job as well with `Prefer: respond-async` or `Prefer: wait=N`. Inputs may be as large as the service's `max_body_mb`; an `Idempotency-Key` needs a body of at most 8 MiB. `Cache-Control`, `X-Result-TTL` and `X-Result-Visibility` are obeyed as there.",
    security,
    requestParams: { header: Named },
    requestBody: { required: true, content: json(JobAsk) },
    responses: {
      202: { description: "Accepted.", headers: JOB_HEADERS, content: json(JobView) },
      ...errors(400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503),
    },
  };
}

function listJobs(): ZodOpenApiOperationObject {
  return {
    operationId: "listJobs",
    tags,
    summary: "List jobs, the latest first",
    security,
    requestParams: { query: ListQuery },
    responses: {
      200: {
        description: "A page of jobs.",
        headers: COMMON_HEADERS,
        content: json(z.object({ data: z.array(JobView), next_cursor: z.string().nullable() })),
      },
      ...errors(400, 401, 403, 429, 500),
    },
  };
}

function getJob(): ZodOpenApiOperationObject {
  return {
    operationId: "getJob",
    tags,
    summary: "Get a job",
    description: "With `wait`, the answer is held until the job's state changes.",
    security,
    requestParams: { path: id, query: WaitQuery },
    responses: {
      200: { description: "The job.", headers: COMMON_HEADERS, content: json(JobView) },
      ...errors(400, 401, 403, 404, 429, 500),
    },
  };
}

function cancelJob(): ZodOpenApiOperationObject {
  return {
    operationId: "cancelJob",
    tags,
    summary: "Cancel a job",
    description:
      "A waiting job leaves the line at once and costs nothing. The result of a running job is discarded; its card is told to stop if no other work runs on it.",
    security,
    requestParams: { path: id },
    responses: {
      200: { description: "Canceled.", headers: COMMON_HEADERS, content: json(JobView) },
      ...errors(401, 403, 404, 409, 429, 500),
    },
  };
}

function jobEvents(): ZodOpenApiOperationObject {
  return {
    operationId: "jobEvents",
    tags,
    summary: "Follow a job",
    description:
      "Server-sent events `state`, `position`, `progress`, `done`, each with an id; after `Last-Event-ID` every later event is sent.",
    security,
    requestParams: {
      path: id,
      header: z.object({
        "Last-Event-ID": z.string().optional().meta({ description: "Id of the last event that was received." }),
      }),
    },
    responses: {
      200: { description: "The events.", content: { "text/event-stream": { schema: z.string() } } },
      ...errors(401, 403, 404, 429, 500),
    },
  };
}

function createBatch(): ZodOpenApiOperationObject {
  return {
    operationId: "createBatch",
    tags,
    summary: "Submit up to a thousand jobs at once",
    description:
      "All jobs are accepted, or none; the body has 8 MiB at most. A batch counts as one request for the rate limit. More jobs than the tenant's `jobs_waiting` never fit: 429, not retryable.",
    security,
    requestParams: { header: Named },
    requestBody: { required: true, content: json(BatchAsk) },
    responses: {
      202: { description: "Accepted.", headers: JOB_HEADERS, content: json(BatchView) },
      ...errors(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503),
    },
  };
}

function getBatch(): ZodOpenApiOperationObject {
  return {
    operationId: "getBatch",
    tags,
    summary: "Get a batch",
    security,
    requestParams: { path: id },
    responses: {
      200: { description: "The batch.", headers: COMMON_HEADERS, content: json(BatchView) },
      ...errors(401, 403, 404, 429, 500),
    },
  };
}
