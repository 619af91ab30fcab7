/** The fal dialect in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject, ZodOpenApiResponsesObject } from "zod-openapi";
import { Input } from "../dialects/fal/request.ts";
import { UploadBody, UploadView } from "../dialects/fal/files.ts";
import { StatusView } from "../dialects/fal/queue.ts";
import { COMMON_HEADERS, header, NO_AUTH, RUN_HEADERS, TENANT_KEY } from "./parts.ts";

const tags = ["fal dialect"];
const QUEUE = "/fal/queue/{owner}/{app}";
const app = z.object({
  owner: z.string().meta({ description: "`portico`; the prefixes `workflows/` and `comfy/` are accepted." }),
  app: z.string().meta({ description: "A service's id; a path below its route may follow." }),
});
const request = app.extend({ id: z.string().meta({ description: "A job's id." }) });
const logs = z.object({ logs: z.enum(["0", "1"]).optional() });
const said = z.object({
  "x-fal-request-timeout": z
    .string()
    .optional()
    .meta({ description: "Seconds within which the request must start; otherwise 504." }),
  "x-fal-object-lifecycle-preference": z.string().optional().meta({ description: "Checked, but has no effect." }),
});
const handed = said.extend({
  "x-fal-queue-priority": z.enum(["high", "normal", "low"]).optional(),
  "x-fal-no-retry": z.string().optional().meta({ description: "`1`: only one try." }),
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
  .meta({ id: "FalOutput", description: "The origin's JSON; its images and sounds are replaced by files with URLs." });
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
  "x-fal-request-id": header("The job's id; for other calls, the request's id."),
};
const REFUSED: ZodOpenApiResponsesObject = {
  "4XX": { description: "422 lists the invalid fields.", headers: HEADERS, content: json(FalError) },
  "5XX": {
    description: "504 with `x-fal-request-timeout-type: user`: the caller's own deadline has passed.",
    headers: { ...HEADERS, "x-fal-error-type": header("The same as `error_type`.") },
    content: json(FalError),
  },
};

export function falPaths(): ZodOpenApiPathsObject {
  return {
    "/fal/run/{owner}/{app}": { post: runCall("falRun", "Call a model", json(Output)) },
    "/fal/run/{owner}/{app}/stream": {
      post: runCall("falStream", "Call a model and stream its answer", { ...events, ...bytes }),
    },
    [QUEUE]: { post: submitCall() },
    [`${QUEUE}/requests/{id}`]: {
      get: requestCall("falResult", "Get a request's output", { 200: answer("The output.", json(Output)) }),
    },
    [`${QUEUE}/requests/{id}/status`]: { get: statusCall() },
    [`${QUEUE}/requests/{id}/status/stream`]: {
      get: requestCall("falStatusStream", "Follow a request", { 200: answer("The states.", events) }, logs),
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
        ...fileCall("falUpload", "Upload a file", json(z.object({}))),
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
    description: "Common fields of fal's models are translated; all others are passed to the origin unchanged.",
    security: TENANT_KEY,
    requestParams: { path: app, header: said },
    requestBody: { content: json(Input) },
    responses: { 200: answer("The output.", content, { ...RUN_HEADERS, ...HEADERS }), ...REFUSED },
  };
}

function submitCall(): ZodOpenApiOperationObject {
  const query = z.object({
    fal_webhook: z.string().optional().meta({ description: "URL that is called when the request has ended." }),
  });
  return {
    operationId: "falSubmit",
    tags,
    summary: "Submit a request to the queue",
    description: "The request becomes a job, with the same id in all dialects.",
    security: TENANT_KEY,
    requestParams: { path: app, header: handed, query },
    requestBody: { content: json(Input) },
    responses: { 200: answer("The request is queued.", json(StatusView)), ...REFUSED },
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
  const responses = {
    200: answer("The request has ended.", content),
    202: answer("The request has not ended.", content),
  };
  const call = requestCall("falStatus", "Get a request's status", responses, logs);
  return { ...call, description: "The answer is held until the status changes, for at most 20 s." };
}

function initiateCall(): ZodOpenApiOperationObject {
  return {
    operationId: "falInitiateUpload",
    tags,
    summary: "Upload a file to use as an input",
    description:
      "At most 12 MiB; kept for a day. In an input, its URL is replaced by its content before the origin gets it.",
    security: TENANT_KEY,
    requestBody: { required: true, content: json(UploadBody) },
    responses: {
      200: answer("The URL for the upload, and the URL of the uploaded file.", json(UploadView)),
      ...REFUSED,
    },
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
    "x-fal-target-url": z.string().meta({ description: "URL at `fal.run`, `queue.fal.run` or `rest.fal.ai`." }),
  });
  return {
    operationId: `falProxy${method}`,
    tags,
    summary: "Any of these calls, through a client's `proxyUrl`",
    description: "Handled by this server; nothing is fetched from the target URL.",
    security: TENANT_KEY,
    requestParams: { header: target },
    responses: { "2XX": answer("The answer of that call.", bytes), ...REFUSED },
  };
}

function keysCall(): ZodOpenApiOperationObject {
  return {
    operationId: "falKeys",
    tags,
    summary: "The keys that sign fal's webhooks",
    description: "Ed25519 (RFC 8037): the keys of the previous, current and next quarter.",
    security: NO_AUTH,
    responses: { 200: answer("The keys.", json(z.object({ keys: z.array(Key) })), COMMON_HEADERS) },
  };
}
