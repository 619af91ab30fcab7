/** A job's `output`: the origin's JSON answer with the images taken out. Pure. */
import { isJson } from "../body/fields.ts";

/** A longer output is not kept: large data belongs in results. */
const OUTPUT_LENGTH_MAX = 512 * 1024;
/** Base64 text of at least this length counts as an image. */
const IMAGE_LENGTH_MIN = 256;

/** Returns JSON text, or null if the answer is not JSON, is nested too deep for the stack, or its text is too long. */
export function withoutImages(bytes: Uint8Array | null, contentType: string | null): string | null {
  const mediaType = contentType?.split(";")[0]?.trim().toLowerCase() ?? null;
  if (bytes === null || !isJson(mediaType)) return null;
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
    const text = JSON.stringify(cleared(value));
    return text.length > OUTPUT_LENGTH_MAX ? null : text;
  } catch {
    return null;
  }
}

/** Removes the images from the object's top-level fields. */
function cleared(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const { images, image, ...rest } = value as Record<string, unknown>;
  return {
    ...(isPicture(images) ? {} : kept("images", images)),
    ...(isPicture(image) ? {} : kept("image", image)),
    ...rest,
  };
}

function kept(name: string, value: unknown): Record<string, unknown> {
  return value === undefined ? {} : { [name]: value };
}

/** Whether the value is an image in base64, a data URL, or an array of these. */
function isPicture(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isPicture);
  if (typeof value !== "string") return false;
  return (
    value.startsWith("data:image/") ||
    (value.length >= IMAGE_LENGTH_MIN && /^[A-Za-z0-9+/=\s]+$/.test(value.slice(0, 4096)))
  );
}
