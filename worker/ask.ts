/**
 * Stage 2: what is asked. Turns an HTTP request to a service route into an Ask: one parsed request with its body
 * bounded and its fields checked against what the service allows. Dialects and jobs make Asks of their own.
 */
import { type Body, type BodyLimits, readBody } from "./body.ts";
import type { ServiceRow } from "./db/queries.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { fieldRefusal } from "./rules.ts";

export interface Ask {
  service: ServiceRow;
  as: "run" | "read";
  method: string;
  /** The whole normalised path, route included. */
  path: string;
  /** As it came: with `?`, or empty. */
  query: string;
  headers: Headers;
  body: Body;
  /** Lower case, without parameters; null without a body. */
  mediaType: string | null;
  /** The body's fields, when it is JSON or a form and was buffered. */
  fields: Fields | null;
  /** The caller's own deadline for the first byte, ms of the epoch. */
  deadlineAt: number | null;
  /** RFC 9111 request directives that this cache obeys. */
  directives: { noStore: boolean; noCache: boolean; onlyIfCached: boolean };
}

export type Fields = { kind: "json"; value: unknown } | { kind: "form"; parts: FormPart[] };
export interface FormPart {
  name: string;
  filename: string | null;
  type: string;
  value: string | Uint8Array<ArrayBuffer>;
}

const TIMEOUT_S_MAX = 3600;
/** Parts that a form may have. */
const PARTS_MAX = 1000;
const FORMS = ["multipart/form-data", "application/x-www-form-urlencoded"];

export interface Asked {
  service: ServiceRow;
  as: "run" | "read";
  path: string;
  query: string;
}

export async function parseAsk(request: Request, asked: Asked, now: number): Promise<Ask | Refusal> {
  const { service } = asked;
  const deadlineAt = deadline(request.headers, now);
  if (isRefusal(deadlineAt)) return deadlineAt;
  const mediaType = (request.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() || null;
  const unsupported = asked.as === "run" && request.method === "POST" ? mediaTypeRefusal(service, mediaType) : null;
  if (unsupported !== null) return unsupported;
  const inQuery = asked.as === "run" ? fieldRefusal(queryFields(asked.query), service.config) : null;
  if (inQuery !== null) return inQuery;
  const body = await readBody(request, bodyLimits(service, mediaType));
  if (isRefusal(body)) return body;
  // Clients put a Content-Type on requests that have no body.
  const bodyless = body.kind === "none" && request.method !== "POST";
  const fields = bodyless ? null : await parseFields(body, mediaType, request.headers.get("content-type") ?? "");
  // What no rule asks about is for the origin to judge.
  const unread = isRefusal(fields) && service.config.kind === "http" && !isRuled(service);
  const refusal = unread || fields === null ? null : isRefusal(fields) ? fields : fieldRefusal(fields, service.config);
  if (refusal !== null) {
    if (body.kind === "bytes") body.room.free();
    return refusal;
  }
  return {
    ...asked,
    method: request.method,
    headers: request.headers,
    body,
    mediaType: body.kind === "none" ? null : mediaType,
    fields: isRefusal(fields) ? null : fields,
    deadlineAt,
    directives: directives(request.headers.get("cache-control")),
  };
}

/** Some servers read a form's fields from the query as well. */
function queryFields(query: string): Fields {
  const parts = Array.from(new URLSearchParams(query), ([name, value]) => ({ name, filename: null, type: "", value }));
  return { kind: "form", parts };
}

function bodyLimits(service: ServiceRow, mediaType: string | null): BodyLimits {
  const checked = isRuled(service) && (isJson(mediaType) || FORMS.includes(mediaType ?? ""));
  return { max: service.config.max_body_mb * 1e6, checked };
}

function isRuled({ config: { bounds, forbid } }: ServiceRow): boolean {
  return forbid.length > 0 || Object.keys(bounds).length > 0;
}

/** What the two known kinds of origins take; an `http` service takes anything. */
function mediaTypeRefusal({ config }: ServiceRow, mediaType: string | null): Refusal | null {
  if (config.kind === "http" || isJson(mediaType)) return null;
  if (config.kind === "tts" && mediaType !== null && FORMS.includes(mediaType)) return null;
  const expected = config.kind === "image" ? "application/json" : `application/json, ${FORMS.join(", ")}`;
  return refuse("unsupported_media_type", { facts: { expected } });
}

export function isJson(mediaType: string | null): boolean {
  return mediaType !== null && /^application\/(json|[\w.-]+\+json)$/.test(mediaType);
}

async function parseFields(
  body: Body,
  mediaType: string | null,
  contentType: string,
): Promise<Fields | null | Refusal> {
  if (body.kind !== "bytes") return isJson(mediaType) && body.kind === "none" ? malformed("it is empty") : null;
  if (isJson(mediaType)) return parseJson(body.bytes);
  if (!FORMS.includes(mediaType ?? "")) return null;
  try {
    const form = await new Response(body.bytes, { headers: { "content-type": contentType } }).formData();
    const parts: FormPart[] = [];
    for (const [name, value] of form) {
      if (parts.length === PARTS_MAX)
        return refuse("invalid_field", { param: name, facts: { detail: `more than ${PARTS_MAX} parts` } });
      if (typeof value === "string") parts.push({ name, filename: null, type: "", value });
      else
        parts.push({ name, filename: value.name, type: value.type, value: new Uint8Array(await value.arrayBuffer()) });
    }
    return { kind: "form", parts };
  } catch {
    return refuse("invalid_field", { param: "body", facts: { detail: "is not a well-formed form" } });
  }
}

function parseJson(bytes: Uint8Array): Fields | Refusal {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
    return { kind: "json", value: JSON.parse(text) as unknown };
  } catch (error) {
    return malformed(error instanceof SyntaxError ? error.message.slice(0, 200) : "it is not UTF-8");
  }
}

function malformed(detail: string): Refusal {
  return refuse("malformed_json", { param: "body", facts: { detail } });
}

/** `X-Timeout-S`, else what the `openai` client sends when it is given a timeout. */
function deadline(headers: Headers, now: number): number | null | Refusal {
  const own = headers.get("x-timeout-s");
  if (own !== null) {
    const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(own.trim()) ? Number(own) : Number.NaN;
    if (!(seconds >= 1 && seconds <= TIMEOUT_S_MAX)) {
      return refuse("invalid_field", {
        param: "X-Timeout-S",
        facts: { detail: `must be 1 to ${TIMEOUT_S_MAX} seconds` },
      });
    }
    return now + seconds * 1000;
  }
  const stainless = Number(headers.get("x-stainless-timeout") ?? Number.NaN);
  return stainless >= 1 && stainless <= TIMEOUT_S_MAX ? now + stainless * 1000 : null;
}

function directives(header: string | null): Ask["directives"] {
  const names = new Set(
    (header ?? "")
      .toLowerCase()
      .split(",")
      .map((part) => part.split("=")[0]?.trim()),
  );
  return { noStore: names.has("no-store"), noCache: names.has("no-cache"), onlyIfCached: names.has("only-if-cached") };
}
