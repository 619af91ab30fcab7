/** The OpenAI dialect in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { Model } from "../dialects/openai/models.ts";
import { EditBody, GenerationBody, SpeechBody, VariationBody } from "../dialects/openai/words.ts";
import { COMMON_HEADERS, errors, IDEMPOTENCY_KEY, RUN_HEADERS, TENANT_KEY } from "./parts.ts";

const tags = ["OpenAI dialect"];

const Images = z
  .object({
    created: z.int().meta({ description: "Seconds since the Unix epoch." }),
    data: z.array(z.object({ url: z.string().optional(), b64_json: z.string().optional() })),
    output_format: z.string(),
    size: z.string().optional(),
  })
  .meta({ id: "Images" });

const Named = z.object(IDEMPOTENCY_KEY);

const file = z.string().meta({ format: "binary" });
const EditForm = EditBody.extend({ image: file, mask: file.optional() }).meta({ id: "ImageEdit" });
const VariationForm = VariationBody.extend({ image: file }).meta({ id: "ImageVariation" });

const EVENTS =
  "With `stream`: server-sent events; comments while the request waits, previews as far as the origin gives them, then one completed event for each image. What fails after the first event is told in one, as `error`.";

const ANSWERS = errors(400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504);

export function openAiPaths(): ZodOpenApiPathsObject {
  return {
    "/v1/models": { get: modelsCall() },
    "/v1/models/{id}": { get: modelCall() },
    "/v1/images/generations": {
      post: pictureCall("createImage", "Create images", { "application/json": { schema: GenerationBody } }),
    },
    "/v1/images/edits": {
      post: pictureCall("editImage", "Edit images", { "multipart/form-data": { schema: EditForm } }),
    },
    "/v1/images/variations": {
      post: pictureCall("varyImage", "Create variations of an image", {
        "multipart/form-data": { schema: VariationForm },
      }),
    },
    "/v1/audio/speech": { post: speechCall() },
  };
}

function modelsCall(): ZodOpenApiOperationObject {
  const schema = z.object({ object: z.literal("list"), data: z.array(Model) });
  return {
    operationId: "listModels",
    tags,
    summary: "List the services that the key may use",
    security: TENANT_KEY,
    responses: {
      200: {
        description: "The models, the oldest first.",
        headers: COMMON_HEADERS,
        content: { "application/json": { schema } },
      },
      ...errors(401, 403, 429, 500),
    },
  };
}

function modelCall(): ZodOpenApiOperationObject {
  return {
    operationId: "getModel",
    tags,
    summary: "Get a model",
    security: TENANT_KEY,
    requestParams: { path: z.object({ id: z.string() }) },
    responses: {
      200: { description: "The model.", headers: COMMON_HEADERS, content: { "application/json": { schema: Model } } },
      ...errors(401, 403, 404, 429, 500),
    },
  };
}

function pictureCall(
  operationId: string,
  summary: string,
  content: Record<string, { schema: z.ZodType }>,
): ZodOpenApiOperationObject {
  return {
    operationId,
    tags,
    summary,
    description: EVENTS,
    security: TENANT_KEY,
    requestParams: { header: Named },
    requestBody: { required: true, content },
    responses: {
      200: {
        description: "The images, or events.",
        headers: RUN_HEADERS,
        content: {
          "application/json": { schema: Images },
          "text/event-stream": { schema: z.string() },
        },
      },
      ...ANSWERS,
    },
  };
}

function speechCall(): ZodOpenApiOperationObject {
  return {
    operationId: "createSpeech",
    tags,
    summary: "Create speech from text",
    description: "The sound is sent as the card produces it; with `stream_format: sse` as events, in base64.",
    security: TENANT_KEY,
    requestParams: { header: Named },
    requestBody: { required: true, content: { "application/json": { schema: SpeechBody } } },
    responses: {
      200: {
        description: "The sound, or events.",
        headers: RUN_HEADERS,
        content: { "audio/*": { schema: z.string() }, "text/event-stream": { schema: z.string() } },
      },
      ...ANSWERS,
    },
  };
}
