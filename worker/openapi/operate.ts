/** The operators' calls without a credential, in the OpenAPI document. */
import { z } from "zod";
import type { ZodOpenApiOperationObject, ZodOpenApiPathsObject } from "zod-openapi";
import { ClusterStatus } from "../operate/cluster.ts";
import { Readiness } from "../operate/ready.ts";
import { COMMON_HEADERS, errors, NO_AUTH } from "./parts.ts";

function asked(
  operationId: string,
  summary: string,
  description: string,
  type: string,
  schema: z.ZodType,
): ZodOpenApiOperationObject {
  return {
    operationId,
    tags: ["Operation"],
    summary,
    security: NO_AUTH,
    responses: { 200: { description, headers: COMMON_HEADERS, content: { [type]: { schema } } } },
  };
}

export function operatePaths(): ZodOpenApiPathsObject {
  const ready = asked("getReady", "Whether the deployment can serve", "Ready.", "application/json", Readiness);
  const cluster = asked(
    "getClusterStatus",
    "Live numbers of the cluster",
    "The numbers, at most a second old.",
    "application/json",
    ClusterStatus,
  );
  const notReady = {
    description: "Not ready; the reasons name no host.",
    headers: COMMON_HEADERS,
    content: { "application/json": { schema: Readiness } },
  };
  return {
    "/health": {
      get: asked(
        "getHealth",
        "Whether the Worker answers",
        "`healthy` and a line feed.",
        "text/plain",
        z.literal("healthy\n"),
      ),
    },
    "/ready": { get: { ...ready, responses: { ...ready.responses, 503: notReady } } },
    "/cluster/status": { get: { ...cluster, responses: { ...cluster.responses, ...errors(500) } } },
    "/openapi.json": {
      get: asked(
        "getOpenApi",
        "This document",
        "An OpenAPI 3.1 document.",
        "application/json",
        z.record(z.string(), z.unknown()),
      ),
    },
    "/docs": { get: asked("getDocs", "This document as a page", "A page without scripts.", "text/html", z.string()) },
  };
}
