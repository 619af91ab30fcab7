/** Renders a refusal in Replicate's format: `title`, `detail`, `status`, and the invalid fields. */
import { z } from "zod";
import { message } from "../../messages.ts";
import { REASONS, type Refusal } from "../../refusal.ts";
import type { Trace } from "../../trace.ts";
import { refusalHeaders } from "../native.ts";

export const Problem = z
  .object({
    title: z.string(),
    detail: z.string().meta({ description: "Text for people, in English or Chinese according to `Accept-Language`." }),
    status: z.int(),
    invalid_fields: z.array(z.object({ type: z.string(), field: z.string(), description: z.string() })).optional(),
  })
  .meta({ id: "ReplicateError" });

const TITLES: Record<number, string> = {
  400: "Invalid request",
  401: "Unauthenticated",
  403: "Permission denied",
  404: "Not found",
  405: "Method not allowed",
  409: "Conflict",
  413: "Request too large",
  415: "Unsupported media type",
  422: "Unprocessable",
  429: "Request was throttled",
  500: "Internal server error",
  503: "Service unavailable",
};

export function renderProblem(refusal: Refusal, trace: Trace): Response {
  const { status, code } = REASONS[refusal.reason];
  const detail = message(refusal, trace.language);
  const isField = refusal.reason === "invalid_field" && refusal.param !== null;
  const problem: z.infer<typeof Problem> = {
    title: isField ? "Input validation failed" : (TITLES[status] ?? code),
    detail,
    status,
    ...(isField ? { invalid_fields: [{ type: code, field: refusal.param ?? "", description: detail }] } : {}),
  };
  return Response.json(problem, { status, headers: refusalHeaders(refusal, trace) });
}
