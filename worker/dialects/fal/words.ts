/** Maps fal's common input fields to the mapping's canonical fields. Pure. */
import type { Given, Task } from "../mapping.ts";

/** Several names may map to one canonical field: fal's models differ. */
const WORDS: Record<string, string> = {
  num_images: "n",
  image_size: "size",
  image_url: "image",
  image_urls: "image",
  mask_url: "mask",
  num_inference_steps: "steps",
  guidance_scale: "cfg_scale",
};
/** Fields about the response format; origins do not get them unless a task maps them. */
const DIALECT_ALONE = new Set(["sync_mode", "enable_safety_checker"]);

const SIZES: Record<string, string> = {
  square_hd: "1024x1024",
  square: "512x512",
  portrait_4_3: "768x1024",
  portrait_16_9: "576x1024",
  landscape_4_3: "1024x768",
  landscape_16_9: "1024x576",
};

/** Whether the input contains an image to work on. */
export function bringsImage(input: Given): boolean {
  return ["image", "image_url", "image_urls"].some((name) => input[name] !== undefined && input[name] !== null);
}

/**
 * Renames fal's fields to canonical ones. A name that the task's own table uses is kept, and a canonical field that the
 * caller gave is not overwritten.
 */
export function givenTo({ fields }: Task, input: Given): Given {
  const own = new Set(fields.map(({ from }) => from));
  const given = Object.entries(input).filter(([name]) => own.has(name) || !DIALECT_ALONE.has(name));
  return Object.fromEntries(
    given.map(([name, value]) => {
      const word = Object.hasOwn(WORDS, name) ? (WORDS[name] ?? name) : name;
      const renamed = word !== name && !own.has(name) && input[word] === undefined;
      return renamed ? [word, word === "size" ? size(value) : value] : [name, value];
    }),
  );
}

/** The caller's name for a canonical field. */
export function nameIn(input: Given, field: string): string {
  if (Object.hasOwn(input, field)) return field;
  return Object.keys(WORDS).find((name) => WORDS[name] === field && Object.hasOwn(input, name)) ?? field;
}

/** A size name, or `{width, height}`, as `WxH`. Anything else is left for the mapping to refuse. */
function size(value: unknown): unknown {
  if (typeof value === "string" && Object.hasOwn(SIZES, value)) return SIZES[value];
  if (typeof value !== "object" || value === null) return value;
  const { width, height } = value as { width?: unknown; height?: unknown };
  return `${String(width)}x${String(height)}`;
}
