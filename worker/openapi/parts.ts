/** Parts shared by the operations of the OpenAPI document: errors, headers and security requirements. */
import { z } from "zod";
import type { ZodOpenApiResponseObject, ZodOpenApiResponsesObject } from "zod-openapi";
import { REASONS } from "../refusal.ts";

export const TENANT_KEY = [{ tenantKey: [] }, { apiKey: [] }];
export const OPERATOR = [{ operatorToken: [] }, { accessAssertion: [] }];
export const CARD_TOKEN = [{ cardToken: [] }];
export const SIGNED_OR_KEY = [...TENANT_KEY, { signedUrl: [] }];
export const NO_AUTH: [] = [];

/** Client disconnected: no one receives this status, so it is not documented. */
const UNSEEN_STATUS = 499;
const wires = Object.entries(REASONS).filter(([, wire]) => wire.status !== UNSEEN_STATUS);
const unique = <T>(values: T[]) => [...new Set(values)];

const ErrorBody = z
  .object({
    error: z.object({
      code: z.enum(unique(wires.map(([, wire]) => wire.code))),
      type: z.enum(unique(wires.map(([, wire]) => wire.type))),
      message: z
        .string()
        .meta({ description: "Text for people, in English or Chinese according to `Accept-Language`." }),
      param: z.string().nullable().meta({ description: "The invalid field." }),
      reason: z.enum(unique(wires.map(([reason]) => reason))),
      retryable: z.boolean().meta({ description: "Whether the same request can succeed later." }),
      started: z.enum(["no", "yes", "unknown"]).meta({ description: "Whether a GPU started the work." }),
      request_id: z.string(),
      timestamp: z.string().meta({ format: "date-time" }),
    }),
  })
  .meta({ id: "Error" });

/** Every reason with its status and flags; an extension of the document (`x-reasons`). */
export const reasonTable = wires.map(([reason, { status, code, type, retryable }]) => ({
  reason,
  status,
  code,
  type,
  retryable,
}));

export const header = (description: string) => ({ description, schema: { type: "string" as const } });

/** Content of a response that is also available as CSV (RFC 4180), with a header row. */
export const TABLE = { "text/csv": { schema: { type: "string" as const } } };

type Headers = Record<string, ReturnType<typeof header>>;

const RETRY_AFTER: Headers = { "Retry-After": header("When to try again, in whole seconds, jittered.") };

/** Headers of every response. */
export const COMMON_HEADERS: Headers = {
  "X-Request-Id": header("The id of this request, always new."),
  "X-Client-Request-Id": header("The caller's own `X-Request-Id`, if it is well-formed."),
};

/** Headers of responses of service routes. */
export const RUN_HEADERS: Headers = {
  ...COMMON_HEADERS,
  "Server-Timing": header(
    "`auth`, `limit`, `cache`, `queue`, `origin`, `store` in ms; stages that did not happen are left out.",
  ),
  "Cache-Status": header(
    "`portico; hit; ttl=N`, or how the request was forwarded (RFC 9211); `detail=too_large` or `no_room`: why the answer is not stored.",
  ),
  "X-Portico-Card": header("The card that ran the request."),
  "RateLimit-Policy": header("The tenant's limits."),
  RateLimit: header("What is left of the limits."),
  Link: header('URL of each finished image or sound, `rel="enclosure"`.'),
};

/** Headers of responses that name a new job or batch. */
export const JOB_HEADERS: Headers = {
  ...COMMON_HEADERS,
  Location: header("URL of the job or batch."),
  "Retry-After": header("When to check it again, in whole seconds."),
  "Idempotent-Replayed": header("`true`: it was created by an earlier request with the same key."),
};

/** The parameter of calls that accept an idempotency key. Such calls can also answer 409 and 422. */
export const IDEMPOTENCY_KEY = {
  "Idempotency-Key": z
    .string()
    .optional()
    .meta({ description: "1 to 255 characters: requests with the same key and body have one outcome." }),
};

const errorOf = new Map<number, ZodOpenApiResponseObject>();

/** The error response of a status. Cached, so that each status is one component of the document. */
function error(status: number): ZodOpenApiResponseObject {
  const known = errorOf.get(status);
  if (known !== undefined) return known;
  const rows = reasonTable.filter((row) => row.status === status);
  const made: ZodOpenApiResponseObject = {
    id: `Error${status}`,
    description: `${rows[0]?.code ?? "error"}: ${rows.map((row) => `\`${row.reason}\``).join(", ")}`,
    headers: rows.some((row) => row.retryable) ? { ...COMMON_HEADERS, ...RETRY_AFTER } : COMMON_HEADERS,
    content: { "application/json": { schema: ErrorBody }, "application/problem+json": { schema: ErrorBody } },
  };
  errorOf.set(status, made);
  return made;
}

export function errors(...statuses: number[]): ZodOpenApiResponsesObject {
  return Object.fromEntries(statuses.map((status) => [String(status), error(status)]));
}
