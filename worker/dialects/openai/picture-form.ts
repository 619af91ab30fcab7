/**
 * Parses the multipart body of `/v1/images/edits` and `/v1/images/variations`: files, and text parts converted to
 * values.
 */
import type { Caller } from "../../auth.ts";
import { BUFFERED_BYTES_MAX, letGo, readBody } from "../../body/body.ts";
import { MULTIPART, parseFields } from "../../body/fields.ts";
import { type FileGiven, type Given } from "../mapping.ts";
import { media, mediaTypeOf } from "../../results/media.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";

const IMAGES_MAX = 16;
const FILES = /^(image|mask)(\[\d{0,2}\])?$/;
/** Fields that stay text even if they look like numbers or booleans. */
const TEXTS = new Set(["prompt", "negative_prompt", "model", "size", "sampler_name", "user"]);

/** Reads a form of at most 8 MiB. Returns its files under `image` (a list) and `mask`. */
export async function pictureForm(request: Request, caller: Caller): Promise<Given | Refusal> {
  const mediaType = mediaTypeOf(request.headers);
  if (mediaType !== MULTIPART) return refuse("unsupported_media_type", { facts: { expected: MULTIPART } });
  const body = await readBody(request, { max: BUFFERED_BYTES_MAX, tenant: caller.tenant });
  if (isRefusal(body)) return body;
  try {
    if (body.kind !== "bytes") return invalid("body", "form");
    const fields = await parseFields(body.bytes, mediaType, request.headers.get("content-type") ?? "");
    if (isRefusal(fields)) return fields;
    return fields?.kind === "form" ? givenBy(fields.parts) : invalid("body", "form");
  } finally {
    letGo(body);
  }
}

type Part = Extract<
  Exclude<Awaited<ReturnType<typeof parseFields>>, Refusal | null>,
  { kind: "form" }
>["parts"][number];

function givenBy(parts: Part[]): Given | Refusal {
  const files: { image: FileGiven[]; mask: FileGiven[] } = { image: [], mask: [] };
  let given: Given = {};
  for (const { name, value } of parts) {
    if (typeof value === "string") {
      given = { ...given, [name]: TEXTS.has(name) ? value : valueOf(value) };
      continue;
    }
    const [, field] = FILES.exec(name) ?? [];
    if (field !== "image" && field !== "mask") return invalid(name.slice(0, 100), "no_file");
    const found = media(value);
    if (found === null || !found.type.startsWith("image/") || found.end === "cut") return invalid(field, "image_file");
    files[field].push({ bytes: value, type: found.type });
  }
  if (files.image.length === 0) return invalid("image", "required");
  if (files.image.length > IMAGES_MAX) return invalid("image", "elements_at_most", { max: IMAGES_MAX });
  if (files.mask.length > 1) return invalid("mask", "elements_at_most", { max: 1 });
  return { ...given, image: files.image, ...(files.mask.length === 0 ? {} : { mask: files.mask[0] }) };
}

/** Form fields are text only: text that reads as a number or boolean is converted to one. */
function valueOf(text: string): string | number | boolean {
  if (text === "true" || text === "false") return text === "true";
  return /^-?(0|[1-9]\d{0,14})(\.\d{1,15})?$/.test(text) ? Number(text) : text;
}
