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
const REFUSED = { description: "Refused, in Replicate's words.", headers: COMMON_HEADERS, content: json(Problem) };

const Preferences = z.object({
  Prefer: z
    .string()
    .optional()
    .meta({ description: "`wait` or `wait=N`: answered when it is over, after 60 s at most." }),
  "Idempotency-Key": z.string().optional().meta({ description: "The same name and body make one prediction." }),
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
      "The job is taken. What the rate or `jobs_waiting` would refuse is held for up to 30 s first; then 429, or at once 503 where too many are held.",
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
      get: call("listPredictions", "The tenant's jobs, the latest first", {
        schema: pageOf(Prediction),
        requestParams: { query: PageQuery },
      }),
      post: create("createPrediction", "Make a prediction"),
    },
    "/predictions/{id}": {
      get: call("getPrediction", "Look at a prediction", { schema: Prediction, requestParams: { path: id } }),
    },
    "/predictions/{id}/cancel": {
      post: call("cancelPrediction", "Cancel a prediction; one that is over stays as it is", {
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
      get: call("listReplicateModels", "The services that the key may use", { schema: pageOf(ReplicateModel) }),
    },
    "/models/{owner}/{name}": {
      get: call("getReplicateModel", "One of them", { schema: ReplicateModel, requestParams: { path: named } }),
    },
    "/models/{owner}/{name}/predictions": { post: create("createModelPrediction", "Make a prediction with it", named) },
    "/models/{owner}/{name}/versions": {
      get: call("listModelVersions", "Its one version", { schema: VersionPage, requestParams: { path: named } }),
    },
    "/models/{owner}/{name}/versions/{id}": {
      get: call("getModelVersion", "That version", {
        schema: Version,
        requestParams: { path: named.extend(id.shape) },
      }),
    },
    "/deployments/{owner}/{name}/predictions": {
      post: create("createDeploymentPrediction", "Make a prediction with the service of that name", named),
    },
  };
}

/** Files, the account, and the secret of webhooks. */
function otherPaths(): ZodOpenApiPathsObject {
  return {
    "/files": {
      post: call("createFile", "Lay down a file for a day, to name it as an input", {
        status: 201,
        schema: FileView,
        requestParams: { header: z.object(IDEMPOTENCY_KEY) },
        requestBody: { required: true, content: { "multipart/form-data": { schema: FileForm } } },
      }),
    },
    "/files/{id}": {
      get: call("getFile", "What is known of a file", { schema: FileView, requestParams: { path: id } }),
      delete: call("deleteFile", "Take a file away", { status: 204, requestParams: { path: id } }),
    },
    "/account": { get: call("getAccount", "Whose key it is", { schema: Account }) },
    "/webhooks/default/secret": {
      get: call("getDefaultWebhookSecret", "What signs the tenant's webhooks", { schema: SecretView }),
    },
  };
}
