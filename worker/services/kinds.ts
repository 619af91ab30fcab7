/** Defaults of each kind of service, and completing a service with them. Pure. */
import { type Dialects, type Task, type TaskName, TASKS } from "../dialects/mapping.ts";
import { given } from "../api/schema-parts.ts";
import { type Kind, PER_RESULT, RUN_S_MAX, type Service, type ServicePut } from "./service.ts";

const run = (...paths: string[]) => paths.map((path) => ({ method: "POST" as const, path, as: "run" as const }));
const read = (...paths: string[]) => paths.map((path) => ({ method: "GET" as const, path, as: "read" as const }));

const BY_KIND: Record<Kind, Pick<Service, "paths" | "bounds" | "forbid"> & { cached: boolean }> = {
  image: {
    paths: [...run("txt2img", "img2img"), ...read("sd-models", "samplers", "loras", "upscalers")],
    bounds: { width: 2048, height: 2048, steps: 150, batch_size: 8, n_iter: 4 },
    // `init_images:url` forbids images given by URL: an origin would fetch them from inside its own network.
    forbid: ["override_settings*", "script_name", "alwayson_scripts*", "init_images:url"],
    cached: true,
  },
  tts: {
    paths: run(
      "audio-generate",
      "inference_sft",
      "inference_zero_shot",
      "inference_cross_lingual",
      "inference_instruct",
      "inference_instruct2",
    ),
    bounds: { text: 5000, tts_text: 5000 },
    forbid: [],
    cached: true,
  },
  http: { paths: [{ method: "*", path: "*", as: "run" }], bounds: {}, forbid: [], cached: false },
};

/**
 * Image generation with the WebUI. Other fields that callers send (`seed`, `steps`, `negative_prompt`, ...) already
 * have the WebUI's names.
 */
const PICTURE: Task = {
  path: "txt2img",
  body: "json",
  fields: [
    { from: "prompt", to: "prompt" },
    { from: "n", to: "batch_size" },
    { from: "size", to: "width", as: "width" },
    { from: "size", to: "height", as: "height" },
  ],
  fixed: {},
  results: "/images",
  formats: ["png"],
  progress: { path: "progress", share: "/progress", image: "/current_image", running: "/state/job_count" },
};

/** The area to repaint is white in the WebUI's mask and transparent in the dialects' masks, so the mask is inverted. */
const FROM_PICTURE: Task = {
  ...PICTURE,
  path: "img2img",
  fields: [
    ...PICTURE.fields,
    { from: "image", to: "init_images", as: "base64", list: 1 },
    { from: "mask", to: "mask", as: "base64" },
    { from: "mask", to: "inpainting_mask_invert", as: "given" },
    { from: "strength", to: "denoising_strength" },
  ],
};

/** CosyVoice speech, streamed: the first byte arrives with the first chunk. */
const SOUND: Task = {
  path: "audio-generate",
  body: "json",
  fields: [
    { from: "input", to: "text" },
    { from: "voice", to: "voice" },
    { from: "speed", to: "speed" },
    { from: "instructions", to: "instruct_text" },
    { from: "response_format", to: "format" },
  ],
  fixed: { stream: true },
  results: null,
  formats: ["wav", "pcm"],
};

/** How the dialects reach the usual origin of each kind. */
export const DIALECTS_BY_KIND: Record<Kind, Dialects> = {
  image: { generate: PICTURE, edit: FROM_PICTURE, run: PICTURE },
  tts: { speech: SOUND, run: { ...SOUND, fixed: {} } },
  http: {},
};

/** The service's own definition of a task; undefined: its kind's default applies. */
export function ownTask({ dialects }: Service, name: TaskName): Task | null | undefined {
  // Services stored before tasks existed lack this field.
  return (dialects as Dialects | undefined)?.[name];
}

/** JSON pointer to the images in the answers of an image service's path, from its tasks; null: no task uses it. */
export function imagesAt({ route, config }: { route: string; config: Service }, path: string): string | null {
  if (config.kind !== "image") return null;
  const tasks = TASKS.map((name) => {
    const own = ownTask(config, name);
    return own === undefined ? DIALECTS_BY_KIND.image[name] : own;
  });
  return tasks.find((task) => task && route + task.path === path)?.results ?? null;
}

/** Removes entries that were put as `null`. */
function withoutNulls<T>(named: Record<string, T>): Record<string, NonNullable<T>> {
  return Object.fromEntries(Object.entries(named).filter((each): each is [string, NonNullable<T>] => each[1] !== null));
}

/** Merges `put` into `before`. Defaults only fill what was never set. */
export function completeService(put: ServicePut & { kind: Kind; route: string }, before: Service | null): Service {
  const kind = BY_KIND[put.kind];
  return {
    kind: put.kind,
    route: put.route,
    paths: put.paths ?? before?.paths ?? kind.paths,
    model_version: put.model_version !== undefined ? put.model_version : (before?.model_version ?? null),
    queue: { max: 200, timeout_s: 60, ...before?.queue, ...given(put.queue) },
    timeouts: { read_s: 300, run_s: RUN_S_MAX, ...before?.timeouts, ...given(put.timeouts) },
    retry: { tries: 3, timeout_s: 30, ...before?.retry, ...given(put.retry) },
    breaker: { max_fails: 3, fail_timeout_s: 30, ...before?.breaker, ...given(put.breaker) },
    drain: { probe: null, max_s: 60, ...before?.drain, ...given(put.drain) },
    max_body_mb: put.max_body_mb ?? before?.max_body_mb ?? 100,
    cache: { enabled: kind.cached, ttl_s: 86_400, shared: false, ...before?.cache, ...given(put.cache) },
    defaults: withoutNulls({ ...before?.defaults, ...put.defaults }),
    bounds:
      put.bounds === undefined ? (before?.bounds ?? kind.bounds) : withoutNulls({ ...before?.bounds, ...put.bounds }),
    forbid: put.forbid ?? before?.forbid ?? kind.forbid,
    results: {
      keep_days: 30,
      visibility: "signed",
      infrequent_after_days: null,
      ...before?.results,
      ...given(put.results),
    },
    abandon: put.abandon ?? before?.abandon ?? "finish",
    dialects: { ...before?.dialects, ...given(put.dialects) },
    price: put.price ?? before?.price ?? PER_RESULT,
  };
}
