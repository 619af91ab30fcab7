/** The fields of a buffered body: JSON or a form, parsed by the platform. */
import { detail, type Detail } from "../details.ts";
import { type Refusal, refuse } from "../refusal.ts";
import { malformedForm, PARTS_MAX, tooManyParts } from "./form.ts";
import { formRefusal } from "./scan/multipart.ts";
import { hasDuplicateNames } from "./duplicate-names.ts";

/** `isAmbiguous`: an object in the JSON has a duplicate name. */
export type Fields = { kind: "json"; value: unknown; isAmbiguous?: boolean } | { kind: "form"; parts: FormPart[] };
export interface FormPart {
  name: string;
  filename: string | null;
  type: string;
  value: string | Uint8Array<ArrayBuffer>;
}

export const JSON_TYPE = "application/json";
export const MULTIPART = "multipart/form-data";
export const URLENCODED = "application/x-www-form-urlencoded";

export function isJson(mediaType: string | null): boolean {
  return mediaType !== null && /^application\/(json|[\w.-]+\+json)$/.test(mediaType);
}

export function isForm(mediaType: string | null): boolean {
  return mediaType === MULTIPART || mediaType === URLENCODED;
}

/** Bytes that may precede JSON in any encoding that servers detect: white space, byte order marks, zeros. */
const BEFORE_JSON = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf, 0xfe, 0xff, 0x00]);
const BRACE = 0x7b;

/** Whether a body starts like a JSON object, whatever its content type; null when it is undecided so far. */
export function startsAsObject(bytes: Uint8Array): boolean | null {
  const first = bytes.find((byte) => !BEFORE_JSON.has(byte));
  return first === undefined ? null : first === BRACE;
}

/** Returns null when the body is neither JSON nor a form. */
export async function parseFields(
  bytes: Uint8Array<ArrayBuffer>,
  mediaType: string | null,
  contentType: string,
): Promise<Fields | null | Refusal> {
  if (isJson(mediaType)) return jsonOf(bytes);
  return isForm(mediaType) ? parseForm(bytes, mediaType, contentType) : null;
}

export function jsonOf(bytes: Uint8Array): Extract<Fields, { kind: "json" }> | Refusal {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes);
    const value = JSON.parse(text) as unknown;
    return { kind: "json", value, isAmbiguous: hasDuplicateNames(text, value) };
  } catch (error) {
    return malformedJson(
      error instanceof SyntaxError ? detail("text", { text: error.message.slice(0, 200) }) : detail("not_utf8"),
    );
  }
}

async function parseForm(
  bytes: Uint8Array<ArrayBuffer>,
  mediaType: string | null,
  contentType: string,
): Promise<Fields | Refusal> {
  const refused = mediaType === MULTIPART ? await formRefusal(bytes, contentType) : null;
  if (refused !== null) return refused;
  try {
    const form = await new Response(bytes, { headers: { "content-type": contentType } }).formData();
    const parts: FormPart[] = [];
    for (const [name, value] of form) {
      if (parts.length === PARTS_MAX) return tooManyParts(name);
      if (typeof value === "string") parts.push({ name, filename: null, type: "", value });
      else
        parts.push({ name, filename: value.name, type: value.type, value: new Uint8Array(await value.arrayBuffer()) });
    }
    return { kind: "form", parts };
  } catch {
    return malformedForm();
  }
}

export function malformedJson(facts: Detail): Refusal {
  return refuse("malformed_json", { param: "body", facts });
}
