/** One generation: parses and validates a WebUI request, and makes the texts that go with its pictures. */
import { randomInt } from "node:crypto";
import { MODEL, VERSION } from "./catalogue.ts";
import { Fields } from "./fields.ts";
import type { Detail } from "./fields.ts";
import { imageSize } from "./image-file.ts";
import type { Size } from "./image-file.ts";
import type { Sketch } from "./picture.ts";

const SIDE_MAX = 4_096;
const STEPS_MAX = 1_000;
const BATCH_MAX = 16;
const SEED_MAX = Number.MAX_SAFE_INTEGER - BATCH_MAX * BATCH_MAX;
const RANDOM_SEEDS = 2 ** 32;
/** How much of a prompt affects the drawing; the texts keep all of it. */
const PAINTED_CHARS_MAX = 4_000;
/** Even at denoising strength 0 the picture is not identical to the caller's file. */
const INIT_SHARE = 0.9;

export interface Generation {
  readonly sketch: Omit<Sketch, "under" | "seed" | "variation">;
  readonly prompt: string;
  readonly negative: string;
  readonly seeds: readonly number[];
  /** How far each image departs towards that of another seed, and those seeds; null: none does. */
  readonly variation: { readonly strength: number; readonly seeds: readonly number[] } | null;
  readonly steps: number;
  readonly cfg: number;
  readonly sampler: string;
  readonly batch: number;
  readonly sendImages: boolean;
  readonly strength: number | null;
  readonly init: { readonly file: Uint8Array; readonly share: number; readonly size: Size } | null;
  readonly task: string | null;
  /** The request with its defaults filled in, as the WebUI returns it. */
  readonly echo: Readonly<Record<string, unknown>>;
}

export function parseSketch(
  source: Readonly<Record<string, unknown>>,
  fromImage: boolean,
): { readonly generation: Generation } | { readonly details: readonly Detail[] } {
  const fields = new Fields(source);
  const prompt = fields.text("prompt", "");
  const negative = fields.text("negative_prompt", "");
  const asked = fields.integer("seed", -1, -SEED_MAX, SEED_MAX);
  const steps = fields.integer("steps", 20, 1, STEPS_MAX);
  const cfg = fields.number("cfg_scale", 7, -1_000, 1_000);
  const width = fields.integer("width", 512, 1, SIDE_MAX);
  const height = fields.integer("height", 512, 1, SIDE_MAX);
  const sampler = fields.text("sampler_name", "") || fields.text("sampler_index", "") || "Euler";
  const batch = fields.integer("batch_size", 1, 1, BATCH_MAX);
  const iterations = fields.integer("n_iter", 1, 1, BATCH_MAX);
  const subseedStrength = fields.number("subseed_strength", 0, -1_000, 1_000);
  const subseed = fields.integer("subseed", -1, -SEED_MAX, SEED_MAX);
  const sendImages = fields.flag("send_images", true);
  const strength = fromImage ? fields.number("denoising_strength", 0.75, 0, 1) : null;
  const task = fields.text("force_task_id", "") || null;
  const init = fromImage ? initOf(fields, strength ?? 0) : null;
  if (fields.details.length > 0) return { details: fields.details };
  const countedFrom = (seed: number): number[] => {
    const first = seed < 0 ? randomInt(RANDOM_SEEDS) : seed;
    return Array.from({ length: batch * iterations }, (_, i) => first + i);
  };
  const isVaried = subseedStrength > 0;
  const counted = countedFrom(asked);
  // The WebUI then counts up the variation's seeds instead.
  const seeds = isVaried ? counted.map(() => counted[0] ?? 0) : counted;
  const variation = isVaried ? { strength: subseedStrength, seeds: countedFrom(subseed) } : null;
  const echo = {
    ...source,
    prompt,
    negative_prompt: negative,
    seed: asked,
    steps,
    cfg_scale: cfg,
    width,
    height,
    sampler_name: sampler,
    batch_size: batch,
    n_iter: iterations,
    send_images: sendImages,
    denoising_strength: strength,
    ...(fromImage ? { init_images: null } : {}),
  };
  const sketch = { prompt: prompt.slice(0, PAINTED_CHARS_MAX), width, height, steps };
  return {
    generation: {
      sketch,
      prompt,
      negative,
      seeds,
      variation,
      steps,
      cfg,
      sampler,
      batch,
      sendImages,
      strength,
      init,
      task,
      echo,
    },
  };
}

function initOf(fields: Fields, strength: number): Generation["init"] {
  const [image] = fields.texts("init_images");
  if (image === undefined) {
    fields.wrong("init_images", "Init image not found", "value_error.list.min_items");
    return null;
  }
  const file = Buffer.from(image.replace(/^data:image\/[\w.+-]+;base64,/, ""), "base64");
  const size = imageSize(file);
  if (size) return { file, size, share: (1 - strength) * INIT_SHARE };
  fields.wrong("init_images", "Invalid encoded image", "value_error");
  return null;
}

/** What one image of the generation is drawn from. */
export function sketchOf({ sketch, seeds, variation }: Generation, i: number): Sketch {
  const varied =
    variation === null ? {} : { variation: { seed: variation.seeds[i] ?? 0, strength: variation.strength } };
  return { ...sketch, seed: seeds[i] ?? 0, ...varied };
}

/** The text that the WebUI writes into its PNGs. */
export function parametersOf(generation: Generation, i: number): string {
  const { prompt, negative, steps, sampler, cfg, sketch, strength, seeds, variation } = generation;
  const settings = [
    `Steps: ${steps}`,
    `Sampler: ${sampler}`,
    `CFG scale: ${cfg}`,
    `Seed: ${seeds[i]}`,
    `Size: ${sketch.width}x${sketch.height}`,
    `Model hash: ${MODEL.hash}`,
    `Model: ${MODEL.name}`,
  ];
  if (variation !== null)
    settings.push(`Variation seed: ${variation.seeds[i]}`, `Variation seed strength: ${variation.strength}`);
  if (strength !== null) settings.push(`Denoising strength: ${strength}`);
  return [prompt, ...(negative === "" ? [] : [`Negative prompt: ${negative}`]), settings.join(", ")].join("\n");
}

/** The object that is returned as a JSON string in an answer's `info`. */
export function infoOf(generation: Generation, startedAt: number): unknown {
  const { prompt, negative, seeds, variation, steps, cfg, sampler, batch, sketch, strength, init } = generation;
  const subseeds = variation?.seeds ?? seeds.map(() => 0);
  const all = <T>(value: T): T[] => seeds.map(() => value);
  return {
    prompt,
    all_prompts: all(prompt),
    negative_prompt: negative,
    all_negative_prompts: all(negative),
    seed: seeds[0],
    all_seeds: seeds,
    subseed: subseeds[0],
    all_subseeds: subseeds,
    subseed_strength: variation?.strength ?? 0,
    width: sketch.width,
    height: sketch.height,
    sampler_name: sampler,
    cfg_scale: cfg,
    steps,
    batch_size: batch,
    restore_faces: false,
    face_restoration_model: null,
    sd_model_name: MODEL.name,
    sd_model_hash: MODEL.hash,
    sd_vae_name: null,
    sd_vae_hash: null,
    seed_resize_from_w: -1,
    seed_resize_from_h: -1,
    denoising_strength: strength,
    extra_generation_params: init ? { "Init image size": `${init.size.width}x${init.size.height}` } : {},
    index_of_first_image: 0,
    infotexts: seeds.map((_, i) => parametersOf(generation, i)),
    styles: [],
    job_timestamp: jobTimestamp(startedAt),
    clip_skip: 1,
    is_using_inpainting_conditioning: false,
    version: VERSION,
  };
}

/** A timestamp in the WebUI's format: 20260119161004. */
export function jobTimestamp(at: number): string {
  return new Date(at).toISOString().replaceAll(/\D/g, "").slice(0, 14);
}
