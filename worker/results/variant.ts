/**
 * Resized or converted variants of a result's image, `?w=&h=&format=`, made by the platform's image service if one is
 * bound. They are made for each request and not stored, so a deletion has no copies to find.
 */
import type { Env } from "../env.ts";
import { invalid, type Refusal, refuse } from "../refusal.ts";

/** Sides must be multiples of this, pixels, so that nobody can request the same image in millions of sizes. */
const STEP_PX = 64;
const SIDE_PX_MAX = 2_048;
const FORMATS = ["png", "jpeg", "webp", "avif"] as const;

export interface Variant {
  /** Maximum sides, pixels. Images keep their proportions and are never enlarged. */
  width: number | null;
  height: number | null;
  /** Null: the result's own format, if it is in FORMATS; otherwise PNG. */
  format: (typeof FORMATS)[number] | null;
}

/** Parses the query; null if it asks for no variant. Refuses what is invalid or unavailable: 400 `invalid_field`. */
export function variantOf(query: URLSearchParams, { IMAGES }: Env): Variant | null | Refusal {
  const given = ["w", "h", "format"].filter((name) => query.has(name));
  const [first] = given;
  if (first === undefined) return null;
  if (IMAGES === undefined) return invalid(first, "no_variants");
  const doubled = given.find((name) => query.getAll(name).length > 1);
  if (doubled !== undefined) return invalid(doubled, "repeated");
  const [width, height] = ["w", "h"].map((name) => side(query.get(name)));
  if (width === undefined || height === undefined)
    return invalid(width === undefined ? "w" : "h", "side", { step: STEP_PX, max: SIDE_PX_MAX });
  const format = FORMATS.find((known) => known === query.get("format")) ?? null;
  if (query.has("format") && format === null) return invalid("format", "one_of", { values: FORMATS.join(", ") });
  return { width, height, format };
}

/** Returns undefined for an invalid side. */
function side(text: string | null): number | null | undefined {
  if (text === null) return null;
  const px = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  return px > 0 && px <= SIDE_PX_MAX && px % STEP_PX === 0 ? px : undefined;
}

export function variantEtag(sha256: string, { width, height, format }: Variant): string {
  return `"${sha256}-${width ?? ""}x${height ?? ""}${format === null ? "" : `.${format}`}"`;
}

/** The response with the variant. `open` returns the result's bytes; `headers` are those of the original. */
export async function transformed(
  { IMAGES }: Env,
  method: string,
  { width, height, format }: Variant,
  headers: Headers,
  open: () => Promise<ReadableStream | null>,
): Promise<Response | Refusal> {
  const own = /^image\/(\w+)/.exec(headers.get("content-type") ?? "")?.[1];
  if (own === undefined) return invalid("format", "result_not_image");
  const made = format ?? FORMATS.find((known) => known === own) ?? "png";
  headers.set("content-type", `image/${made}`);
  headers.set("accept-ranges", "none");
  headers.delete("repr-digest");
  if (method === "HEAD") return new Response(null, { headers });
  const body = await open();
  if (body === null || IMAGES === undefined) return refuse("not_found");
  const sides = { ...(width === null ? {} : { width }), ...(height === null ? {} : { height }) };
  const image = IMAGES.input(body).transform({ ...sides, fit: "scale-down" });
  return new Response((await image.output({ format: `image/${made}` })).image(), { headers });
}
