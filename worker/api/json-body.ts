/** JSON bodies of Portico's own calls: bounded and strictly validated; the first error becomes a refusal. */
import type { z } from "zod";
import { type Body, letGo, MIB, readBody } from "../body/body.ts";
import { isJson, jsonOf, malformedJson } from "../body/fields.ts";
import { mediaTypeOf } from "../results/media.ts";
import { detail } from "../details.ts";
import { detailOf } from "./issue.ts";
import { invalid, isRefusal, refuse, type Refusal } from "../refusal.ts";

export interface JsonLimits {
  bytesMax: number;
  /**
   * Maximum nesting depth; deeper JSON could overflow the stack of code that walks it. Null: no limit, for bodies that
   * no code walks recursively.
   */
  depthMax: number | null;
  /** Whether an empty body counts as `{}`. */
  emptyIsObject: boolean;
}

export async function checkedBody<S extends z.ZodType>(
  request: Request,
  schema: S,
  limits: JsonLimits,
): Promise<{ ok: true; body: z.output<S> } | Refusal> {
  const json = await jsonBody(request, limits);
  return isRefusal(json) ? json : checkFields(schema, json.value);
}

/** Reads the body without validating its fields, for a call that checks its idempotency key before that. */
export async function jsonBody(
  request: Request,
  { bytesMax, ...limits }: JsonLimits,
): Promise<{ ok: true; value: unknown } | Refusal> {
  const body = await readBody(request, { max: bytesMax });
  if (isRefusal(body))
    return body.reason === "body_too_large" ? { ...body, facts: { call_mib: bytesMax / MIB } } : body;
  return jsonOfBody(request, body, limits);
}

/** Parses a body that was read, and lets go of it. */
export function jsonOfBody(
  request: Request,
  body: Body,
  { depthMax, emptyIsObject }: Omit<JsonLimits, "bytesMax">,
): { ok: true; value: unknown } | Refusal {
  try {
    if (body.kind === "none" && emptyIsObject) return { ok: true, value: {} };
    if (!isJson(mediaTypeOf(request.headers)))
      return refuse("unsupported_media_type", { facts: { expected: "application/json" } });
    if (body.kind !== "bytes") return malformedJson(detail("empty_body"));
    return parseJson(body.bytes, depthMax);
  } finally {
    letGo(body);
  }
}

/** Validates a value against a schema. The refusal's `param` is the dotted path of the first invalid field. */
export function checkFields<S extends z.ZodType>(schema: S, value: unknown): { ok: true; body: z.output<S> } | Refusal {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, body: parsed.data };
  const [first] = parsed.error.issues;
  if (first === undefined) return invalid("body", "not_valid");
  const issue = atFault(first, value);
  const unknownField = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const param = [...issue.path, ...unknownField].map(String).join(".");
  // A custom check that concerns a missing field names its own detail.
  const isMissing = issue.code !== "custom" && !isGiven(value, issue.path);
  const facts = isMissing ? detail("required") : detailOf(issue);
  return refuse("invalid_field", { param: param === "" ? "body" : param, facts });
}

/**
 * For a union, picks the alternative that the caller most likely meant: the one whose only error is in a field that is
 * present.
 */
function atFault(issue: z.core.$ZodIssue, value: unknown): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  for (const [only, ...more] of issue.errors) {
    if (only === undefined || only.path.length === 0 || more.length > 0) continue;
    const path = [...issue.path, ...only.path];
    if (isGiven(value, path)) return { ...only, path };
  }
  return issue;
}

function isGiven(value: unknown, [name, ...below]: PropertyKey[]): boolean {
  if (name === undefined) return true;
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? isGiven((value as Record<PropertyKey, unknown>)[name], below)
    : false;
}

function parseJson(bytes: Uint8Array<ArrayBuffer>, depthMax: number | null): { ok: true; value: unknown } | Refusal {
  const json = jsonOf(bytes);
  if (isRefusal(json)) return json;
  return depthMax !== null && isDeeper(json.value, depthMax)
    ? malformedJson(detail("too_deep", { max: depthMax }))
    : { ok: true, value: json.value };
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1));
}
