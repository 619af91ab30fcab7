/** The bodies of admin calls: bounded, JSON, validated strictly; what is wrong with one becomes a refusal. */
import type { z } from "zod";
import { readBody } from "../body.ts";
import { isRefusal, refuse, type Refusal } from "../refusal.ts";

const MIB = 1024 * 1024;
const ADMIN_BODY_BYTES_MAX = MIB;
/** Deeper JSON would exhaust the stack of whatever walks it later. */
const JSON_DEPTH_MAX = 64;

/** The checked body. An empty one counts as `{}` where `emptyIsObject`. */
export async function checkedBody<S extends z.ZodType>(
  request: Request,
  schema: S,
  emptyIsObject: boolean,
): Promise<{ ok: true; body: z.output<S> } | Refusal> {
  const body = await readBody(request, { max: ADMIN_BODY_BYTES_MAX });
  if (isRefusal(body)) {
    return body.reason === "body_too_large" ? { ...body, facts: { max_mb: ADMIN_BODY_BYTES_MAX / MIB } } : body;
  }
  if (body.kind === "none" && emptyIsObject) return checkFields(schema, {});
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type.trim())) {
    if (body.kind === "bytes") body.room.free();
    return refuse("unsupported_media_type", { facts: { expected: "application/json" } });
  }
  if (body.kind !== "bytes") return malformed("it is empty");
  const json = parseJson(body.bytes);
  body.room.free();
  return "ok" in json ? checkFields(schema, json.value) : json;
}

/** Fields against their schema; the refusal names the first one at fault by its path in dots. */
export function checkFields<S extends z.ZodType>(schema: S, value: unknown): { ok: true; body: z.output<S> } | Refusal {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, body: parsed.data };
  const issue = parsed.error.issues[0];
  if (issue === undefined) return invalid("body", "is not valid");
  const unknownField = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const param = [...issue.path, ...unknownField].map(String).join(".");
  return invalid(
    param === "" ? "body" : param,
    unknownField.length > 0 ? "is not a field of this call" : issue.message,
  );
}

export function invalid(param: string, detail: string): Refusal {
  return refuse("invalid_field", { param, facts: { detail } });
}

function parseJson(bytes: Uint8Array): { ok: true; value: unknown } | Refusal {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (error) {
    return malformed(error instanceof SyntaxError ? error.message.slice(0, 200) : "it is not UTF-8");
  }
  return isDeeper(value, JSON_DEPTH_MAX)
    ? malformed(`it is deeper than ${JSON_DEPTH_MAX} levels`)
    : { ok: true, value };
}

function malformed(detail: string): Refusal {
  return refuse("malformed_json", { param: "body", facts: { detail } });
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1));
}
