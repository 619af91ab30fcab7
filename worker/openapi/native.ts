/** The tenants' calls in the OpenAPI document: service routes, fingerprints, requests, results and usage. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { VISIBILITIES } from "../results/delivery.ts";
import { FingerprintAnswer, FingerprintBody } from "../api/explain.ts";
import { USAGE, UsageQuery, UsageView } from "../api/usage.ts";
import { JobView } from "../jobs/view.ts";
import {
  COMMON_HEADERS,
  errors,
  header,
  IDEMPOTENCY_KEY,
  JOB_HEADERS,
  RUN_HEADERS,
  SIGNED_OR_KEY,
  TABLE,
  TENANT_KEY,
} from "./parts.ts";

const text = (description: string) => z.string().optional().meta({ description });

const RunHeaders = z.object({
  "X-Timeout-S": z.string().optional().meta({
    description:
      "1 to 3600: the caller's own deadline for the first byte, seconds. A request that cannot meet it is refused at once.",
  }),
  "Cache-Control": text(
    "`no-store`: neither served from the cache nor stored; `no-cache`: runs again and replaces the stored answer; `only-if-cached`: 504 if nothing is stored.",
  ),
  Prefer: text(
    "`respond-async`: the request becomes a job, 202; `wait=N` (1 to 60; more counts as 60): the answer waits up to N seconds for the job (RFC 7240).",
  ),
  "X-Result-TTL": text(
    "Seconds that the results are kept: 1 to the service's `results.keep_days`, which is the default. A stored answer expires with its results.",
  ),
  "X-Result-Visibility": z.enum(VISIBILITIES).optional().meta({
    description:
      "Who may read the results: only holders of a key of the tenant (`private`), also holders of a signed URL (`signed`), or everybody who knows the id (`public`). Default: the service's `results.visibility`. A request that is answered from the cache gets the results of the stored answer.",
  }),
  "X-Request-Id": text("The caller's own id, 1 to 128 of `A-Z a-z 0-9 _ -`; comes back as `X-Client-Request-Id`."),
  "Accept-Language": text("The language of error messages: `en` or `zh`."),
});

const PostHeaders = RunHeaders.extend(IDEMPOTENCY_KEY);

const RoutePath = z.object({
  route: z
    .string()
    .meta({ description: "The service's route without the slashes at its ends; it may have several segments." }),
  path: z.string().meta({ description: "A path that the service lists." }),
});

/** Any JSON, without the refinement of the validating schema. */
const FingerprintAsk = FingerprintBody.extend({
  input: z.unknown().meta({ description: "The body that the request would have." }),
});

const RequestState = z
  .object({
    id: z.string(),
    service: z.string(),
    state: z.enum(["queued", "running", "succeeded", "failed", "canceled"]),
    waiting_on: z.enum(["slots_busy", "tenant_cap", "no_healthy_card", "paused"]).nullable(),
    queue_position: z.int().nullable().meta({ description: "1: it is the next." }),
    status: z.int().nullable().meta({ description: "The answer's status." }),
    results: z.array(
      z.object({ id: z.string(), url: z.string(), content_type: z.string(), bytes: z.int(), sha256: z.string() }),
    ),
    created_at: z.string().meta({ format: "date-time" }),
  })
  .meta({ id: "RequestState" });

const id = z.object({ id: z.string() });
const any = { "*/*": { schema: z.unknown() } };

export function nativePaths(): ZodOpenApiPathsObject {
  return {
    "/{route}/{path}": { post: serviceCall("post"), get: serviceCall("get") },
    "/v1/fingerprint": { post: fingerprintCall() },
    "/v1/requests/{id}": { get: requestCall() },
    "/v1/results/{id}": { get: resultCall("get"), head: resultCall("head"), delete: deleteResultCall() },
    "/v1/usage": { get: usageCall() },
  };
}

function serviceCall(method: "get" | "post"): ZodOpenApiOperationObject {
  const isPost = method === "post";
  return {
    operationId: `${method}Service`,
    tags: ["Services' own APIs"],
    summary: isPost ? "Run a request on a GPU card" : "Read from a GPU card",
    description:
      "The origin's own API below the service's route: query, body and answer as the origin speaks them, streaming both ways. Any method that the service lists works the same. A path listed `run` takes a slot and may wait for one; a path listed `read` does not.",
    security: TENANT_KEY,
    requestParams: { path: RoutePath, header: isPost ? PostHeaders : RunHeaders },
    ...(isPost ? { requestBody: { content: any } } : {}),
    responses: {
      200: {
        description: "The origin's answer. Its own 4xx passes through untouched as well.",
        headers: RUN_HEADERS,
        content: any,
      },
      202: {
        description: "With `Prefer`: the request is a job.",
        headers: { ...JOB_HEADERS, "Preference-Applied": header("The preference that made it a job (RFC 7240).") },
        content: { "application/json": { schema: JobView } },
      },
      ...errors(400, 401, 403, 404, 405, ...(isPost ? [409] : []), 413, 415, ...(isPost ? [422] : []), 429, 500),
      ...errors(502, 503, 504),
    },
  };
}

function fingerprintCall(): ZodOpenApiOperationObject {
  return {
    operationId: "fingerprint",
    tags: ["Results"],
    summary: "Get a request's cache key, or the reason why it has none",
    security: TENANT_KEY,
    requestBody: { required: true, content: { "application/json": { schema: FingerprintAsk } } },
    responses: {
      200: {
        description: "The fingerprint.",
        headers: COMMON_HEADERS,
        content: { "application/json": { schema: FingerprintAnswer } },
      },
      ...errors(400, 401, 403, 404, 413, 415, 429, 500),
    },
  };
}

function requestCall(): ZodOpenApiOperationObject {
  return {
    operationId: "getRequest",
    tags: ["Results"],
    summary: "Get the state of a request",
    description:
      "By our id, or by the caller's own `X-Request-Id` (the latest request wins). Kept for a day, for requests that entered the queue.",
    security: TENANT_KEY,
    requestParams: { path: id },
    responses: {
      200: {
        description: "The request.",
        headers: COMMON_HEADERS,
        content: { "application/json": { schema: RequestState } },
      },
      ...errors(401, 403, 404, 429, 500),
    },
  };
}

function resultCall(method: "get" | "head"): ZodOpenApiOperationObject {
  const content = method === "get" ? { content: any } : {};
  const headers = {
    ...COMMON_HEADERS,
    ETag: header("SHA-256 of the bytes."),
    "Repr-Digest": header("RFC 9530."),
    "Accept-Ranges": header("`bytes`; `none` for a variant."),
    Age: header("Seconds since this edge location's copy was made, if the answer comes from it."),
  };
  return {
    operationId: `${method}Result`,
    tags: ["Results"],
    summary: method === "get" ? "Fetch a finished image or sound" : "Get a result's headers",
    description:
      "Requires a key of the tenant, or `exp`, `kid` and `sig` without a key. A private result requires a key; a public one requires nothing. Conditional and range requests are supported.",
    security: SIGNED_OR_KEY,
    requestParams: {
      path: id,
      query: z.object({
        exp: text("When the signature ends, seconds of the epoch."),
        kid: text("The signing key's name."),
        sig: text("HMAC over id and exp."),
        download: text("A file name for `Content-Disposition`."),
        w: text(
          "An image no wider than this: a multiple of 64 up to 2048. Like `h` and `format`, available only if the deployment has an image service.",
        ),
        h: text("An image no higher than this."),
        format: text("An image as `png`, `jpeg`, `webp` or `avif`."),
      }),
      header: z.object({ Range: text("RFC 9110."), "If-None-Match": text("RFC 9110.") }),
    },
    responses: {
      200: { description: "The bytes.", headers, ...content },
      206: { description: "A range of the bytes.", headers, ...content },
      304: { description: "Not modified.", headers },
      412: { description: "A precondition failed.", headers },
      ...errors(400, 401, 403, 404, 410, 416, 429, 500),
    },
  };
}

function deleteResultCall(): ZodOpenApiOperationObject {
  return {
    operationId: "deleteResult",
    tags: ["Results"],
    summary: "Delete a result",
    description:
      "Deleted at once where the call arrived, and within 60 s everywhere. The tenant's stored answers that contain it are deleted too.",
    security: TENANT_KEY,
    requestParams: { path: id },
    responses: { 204: { description: "Deleted.", headers: COMMON_HEADERS }, ...errors(401, 403, 404, 429, 500) },
  };
}

function usageCall(): ZodOpenApiOperationObject {
  return {
    operationId: "getUsage",
    tags: ["Usage"],
    summary: "The tenant's usage",
    description: USAGE,
    security: TENANT_KEY,
    requestParams: { query: UsageQuery },
    responses: {
      200: {
        description: "A page of rows, in the order of day, service and key; `Link` leads to the next one.",
        headers: COMMON_HEADERS,
        content: { "application/json": { schema: UsageView }, ...TABLE },
      },
      ...errors(400, 401, 403, 429, 500),
    },
  };
}
