/** The fal dialect in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject, ZodOpenApiResponsesObject } from "zod-openapi";
import { Input } from "../dialects/fal/asked.ts";
import { UploadBody, UploadView } from "../dialects/fal/files.ts";
import { StatusView } from "../dialects/fal/queue.ts";
import { COMMON_HEADERS, header, NOBODY, RUN_HEADERS, TENANT_KEY } from "./parts.ts";

const tags = ["fal dialect"];
const QUEUE = "/fal/queue/{owner}/{app}";
const app = z.object({
  owner: z.string().meta({ description: "`portico`; `workflows/` or `comfy/` may stand before it." }),
  app: z.string().meta({ description: "A service's id; a path below its route may follow." }),
});
const request = app.extend({ id: z.string().meta({ description: "A job's id." }) });
const logs = z.object({ logs: z.enum(["0", "1"]).optional() });
const said = z.object({
  "x-fal-request-timeout": z.string().optional().meta({ description: "Seconds; not started by then: 504." }),
  "x-fal-object-lifecycle-preference": z.string().optional().meta({ description: "Checked; changes nothing." }),
});
const handed = said.extend({
  "x-fal-queue-priority": z.enum(["high", "normal", "low"]).optional(),
  "x-fal-no-retry": z.string().optional().meta({ description: "`1`: one try." }),
  "Idempotency-Key": z.string().optional(),
});

const Fault = z.object({ loc: z.array(z.string()), msg: z.string(), type: z.string() });
const FalError = z
  .object({
    detail: z.union([z.string(), z.array(Fault)]),
    message: z.string(),
    error_type: z.string(),
    request_id: z.string().nullable(),
  })
  .meta({ id: "FalError" });
const File = z.object({ url: z.string(), content_type: z.string(), file_name: z.string(), file_size: z.int() });
const Output = z
  .looseObject({
    images: z.array(File.extend({ width: z.int().optional(), height: z.int().optional() })).optional(),
    audio: File.optional(),
    seed: z.int().optional(),
  })
  .meta({ id: "FalOutput", description: "The origin's own JSON, its images and sounds as files by URL." });
const Key = z.object({
  kty: z.string(),
  crv: z.string(),
  x: z.string(),
  kid: z.string(),
  use: z.string(),
  alg: z.string(),
});

const json = (schema: z.ZodType) => ({ "application/json": { schema } });
const events = { "text/event-stream": { schema: z.string() } };
const bytes = { "*/*": { schema: z.string().meta({ format: "binary" }) } };
const HEADERS = {
  ...COMMON_HEADERS,
  "x-fal-request-id": header("The job's id; of a call that is none, the request's."),
};
const REFUSED: ZodOpenApiResponsesObject = {
  "4XX": { description: "422 lists the fields at fault.", headers: HEADERS, content: json(FalError) },
  "5XX": {
    description: "`x-fal-request-timeout-type: user` on 504: the caller's own deadline.",
    headers: { ...HEADERS, "x-fal-error-type": header("As `error_type`.") },
    content: json(FalError),
  },
};

export function falPaths(): ZodOpenApiPathsObject {
  return {
    "/fal/run/{owner}/{app}": { post: runCall("falRun", "Call a model", json(Output)) },
    "/fal/run/{owner}/{app}/stream": {
      post: runCall("falStream", "Call a model for a stream", { ...events, ...bytes }),
    },
    [QUEUE]: { post: submitCall() },
    [`${QUEUE}/requests/{id}`]: {
      get: requestCall("falResult", "What a request made", { 200: answer("Its output.", json(Output)) }),
    },
    [`${QUEUE}/requests/{id}/status`]: { get: statusCall() },
    [`${QUEUE}/requests/{id}/status/stream`]: {
      get: requestCall("falStatusStream", "Follow a request", { 200: answer("Its states.", events) }, logs),
    },
    [`${QUEUE}/requests/{id}/cancel`]: {
      put: requestCall("falCancel", "Cancel a request", {
        202: answer("Canceled.", json(z.object({ status: z.string() }))),
      }),
    },
    "/fal/rest/storage/upload/initiate": { post: initiateCall() },
    "/fal/files/{id}": {
      get: fileCall("falFile", "Read a file", bytes),
      put: {
        ...fileCall("falUpload", "Put a file", json(z.object({}))),
        requestBody: { required: true, content: bytes },
      },
    },
    "/fal/proxy": { get: proxyCall("Get"), post: proxyCall("Post"), put: proxyCall("Put") },
    "/fal/.well-known/jwks.json": { get: keysCall() },
  };
}

type Content = Record<string, { schema: z.ZodType }>;

function answer(description: string, content: Content, headers: typeof COMMON_HEADERS = HEADERS) {
  return { description, headers, content };
}

function runCall(operationId: string, summary: string, content: Content): ZodOpenApiOperationObject {
  return {
    operationId,
    tags,
    summary,
    description: "Fields that fal's models have in common are translated; others are the origin's own.",
    security: TENANT_KEY,
    requestParams: { path: app, header: said },
    requestBody: { content: json(Input) },
    responses: { 200: answer("What it made.", content, { ...RUN_HEADERS, ...HEADERS }), ...REFUSED },
  };
}

function submitCall(): ZodOpenApiOperationObject {
  const query = z.object({ fal_webhook: z.string().optional().meta({ description: "Told when it is over." }) });
  return {
    operationId: "falSubmit",
    tags,
    summary: "Call a model later",
    description: "The request is a job, under one id in all dialects.",
    security: TENANT_KEY,
    requestParams: { path: app, header: handed, query },
    requestBody: { content: json(Input) },
    responses: { 200: answer("In the queue.", json(StatusView)), ...REFUSED },
  };
}

function requestCall(
  operationId: string,
  summary: string,
  responses: ZodOpenApiResponsesObject,
  query = z.object({}),
): ZodOpenApiOperationObject {
  return {
    operationId,
    tags,
    summary,
    security: TENANT_KEY,
    requestParams: { path: request, query },
    responses: { ...responses, ...REFUSED },
  };
}

function statusCall(): ZodOpenApiOperationObject {
  const content = json(StatusView);
  const responses = { 200: answer("It is over.", content), 202: answer("It is not.", content) };
  const call = requestCall("falStatus", "Look at a request", responses, logs);
  return { ...call, description: "Held until there is something new, for 20 s at most." };
}

function initiateCall(): ZodOpenApiOperationObject {
  return {
    operationId: "falInitiateUpload",
    tags,
    summary: "Bring a file for an input",
    description: "At most 12 MiB, kept for a day. Its address in an input becomes data for the origin.",
    security: TENANT_KEY,
    requestBody: { required: true, content: json(UploadBody) },
    responses: { 200: answer("Where to put it, and where it will be.", json(UploadView)), ...REFUSED },
  };
}

function fileCall(operationId: string, summary: string, content: Content): ZodOpenApiOperationObject {
  return {
    operationId,
    tags,
    summary,
    security: [{ signedUrl: [] }],
    requestParams: { path: z.object({ id: z.string() }) },
    responses: { 200: answer("Done.", content), ...REFUSED },
  };
}

function proxyCall(method: string): ZodOpenApiOperationObject {
  const target = z.object({
    "x-fal-target-url": z.string().meta({ description: "Below `fal.run`, `queue.fal.run` or `rest.fal.ai`." }),
  });
  return {
    operationId: `falProxy${method}`,
    tags,
    summary: "Any of these calls, for a client's `proxyUrl`",
    description: "Done here: nothing is fetched.",
    security: TENANT_KEY,
    requestParams: { header: target },
    responses: { "2XX": answer("As that call answers.", bytes), ...REFUSED },
  };
}

function keysCall(): ZodOpenApiOperationObject {
  return {
    operationId: "falKeys",
    tags,
    summary: "The keys that sign fal's webhooks",
    description: "Ed25519 (RFC 8037): this quarter's, the last one's and the next one's.",
    security: NOBODY,
    responses: { 200: answer("The keys.", json(z.object({ keys: z.array(Key) })), COMMON_HEADERS) },
  };
}
