/** The Replicate dialect in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { FileForm, FileView } from "../dialects/replicate/files.ts";
import { Account, pageOf, ReplicateModel, Version, VersionPage } from "../dialects/replicate/models.ts";
import { Prediction } from "../dialects/replicate/prediction.ts";
import { PageQuery, PredictionCreate } from "../dialects/replicate/predictions.ts";
import { Problem } from "../dialects/replicate/refusal.ts";
import { OWNER } from "../dialects/task.ts";
import { SecretView } from "../jobs/webhooks-api.ts";
import { COMMON_HEADERS, IDEMPOTENCY_KEY, SIGNED_OR_KEY, TENANT_KEY } from "./parts.ts";

const id = z.object({ id: z.string() });
const named = z.object({ owner: z.literal(OWNER), name: z.string() });
const json = (schema: z.ZodType) => ({ "application/json": { schema } });
const REFUSED = { description: "Error in Replicate's format.", headers: COMMON_HEADERS, content: json(Problem) };

const Preferences = z.object({
  Prefer: z
    .string()
    .optional()
    .meta({ description: "`wait` or `wait=N`: the answer is held until the prediction has ended, for at most 60 s." }),
  "Idempotency-Key": z
    .string()
    .optional()
    .meta({ description: "Requests with the same key and body create one prediction." }),
});

function call(
  operationId: string,
  summary: string,
  {
    status = 200,
    schema,
    ...more
  }: { status?: 200 | 201 | 204; schema?: z.ZodType } & Partial<ZodOpenApiOperationObject>,
): ZodOpenApiOperationObject {
  const done = { description: summary, headers: COMMON_HEADERS, ...(schema && { content: json(schema) }) };
  return {
    operationId,
    tags: ["Replicate dialect"],
    summary,
    security: TENANT_KEY,
    ...more,
    responses: { [`${status}`]: done, "4XX": REFUSED, "5XX": REFUSED },
  };
}

function create(operationId: string, summary: string, path?: z.ZodObject): ZodOpenApiOperationObject {
  return call(operationId, summary, {
    status: 201,
    schema: Prediction,
    description:
      "Creates a job. A request that exceeds the rate or `jobs_waiting` is first held for up to 30 s; then 429, or at once 503 if too many are held.",
    requestParams: { header: Preferences, ...(path && { path }) },
    requestBody: { required: true, content: json(PredictionCreate) },
  });
}

export function replicatePaths(): ZodOpenApiPathsObject {
  const paths = { ...predictionPaths(), ...modelPaths(), ...otherPaths() };
  return Object.fromEntries(Object.entries(paths).map(([path, item]) => [`/replicate/v1${path}`, item]));
}

function predictionPaths(): ZodOpenApiPathsObject {
  const follow = call("streamPrediction", "Follow a prediction", {
    description: "Server-sent events `logs`, `output`, `error`, `done`; `urls.stream` needs no key.",
    security: SIGNED_OR_KEY,
    requestParams: { path: id },
  });
  return {
    "/predictions": {
      get: call("listPredictions", "List the tenant's jobs, newest first", {
        schema: pageOf(Prediction),
        requestParams: { query: PageQuery },
      }),
      post: create("createPrediction", "Create a prediction"),
    },
    "/predictions/{id}": {
      get: call("getPrediction", "Get a prediction", { schema: Prediction, requestParams: { path: id } }),
    },
    "/predictions/{id}/cancel": {
      post: call("cancelPrediction", "Cancel a prediction; one that has ended stays as it is", {
        schema: Prediction,
        requestParams: { path: id },
      }),
    },
    "/predictions/{id}/stream": { get: follow },
  };
}

function modelPaths(): ZodOpenApiPathsObject {
  return {
    "/models": {
      get: call("listReplicateModels", "List the services that the key may use", { schema: pageOf(ReplicateModel) }),
    },
    "/models/{owner}/{name}": {
      get: call("getReplicateModel", "Get a model", { schema: ReplicateModel, requestParams: { path: named } }),
    },
    "/models/{owner}/{name}/predictions": {
      post: create("createModelPrediction", "Create a prediction with a model", named),
    },
    "/models/{owner}/{name}/versions": {
      get: call("listModelVersions", "List a model's only version", {
        schema: VersionPage,
        requestParams: { path: named },
      }),
    },
    "/models/{owner}/{name}/versions/{id}": {
      get: call("getModelVersion", "Get a model's version", {
        schema: Version,
        requestParams: { path: named.extend(id.shape) },
      }),
    },
    "/deployments/{owner}/{name}/predictions": {
      post: create("createDeploymentPrediction", "Create a prediction with the service of this name", named),
    },
  };
}

/** Files, the account, and the secret of webhooks. */
function otherPaths(): ZodOpenApiPathsObject {
  return {
    "/files": {
      post: call("createFile", "Upload a file to use as an input; kept for a day", {
        status: 201,
        schema: FileView,
        requestParams: { header: z.object(IDEMPOTENCY_KEY) },
        requestBody: { required: true, content: { "multipart/form-data": { schema: FileForm } } },
      }),
    },
    "/files/{id}": {
      get: call("getFile", "Get a file's record", { schema: FileView, requestParams: { path: id } }),
      delete: call("deleteFile", "Delete a file", { status: 204, requestParams: { path: id } }),
    },
    "/account": { get: call("getAccount", "Get the account of the key", { schema: Account }) },
    "/webhooks/default/secret": {
      get: call("getDefaultWebhookSecret", "Get the tenant's webhook signing secret", { schema: SecretView }),
    },
  };
}
