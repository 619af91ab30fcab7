/** What each kind of service stands for, and a service completed by what its kind and the defaults say. Pure. */
import { given } from "./schema-parts.ts";
import { type Kind, PER_RESULT, type Service, type ServicePut } from "./service.ts";

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

/** A whole service from what was put on top of what was set before; defaults fill only what was never set. */
export function completeService(put: ServicePut & { kind: Kind; route: string }, before: Service | null): Service {
  const kind = BY_KIND[put.kind];
  return {
    kind: put.kind,
    route: put.route,
    paths: put.paths ?? before?.paths ?? kind.paths,
    model_version: put.model_version !== undefined ? put.model_version : (before?.model_version ?? null),
    queue: { max: 200, timeout_s: 60, ...before?.queue, ...given(put.queue) },
    timeouts: { read_s: 300, ...before?.timeouts, ...given(put.timeouts) },
    retry: { tries: 3, timeout_s: 30, ...before?.retry, ...given(put.retry) },
    breaker: { max_fails: 3, fail_timeout_s: 30, ...before?.breaker, ...given(put.breaker) },
    drain: { probe: null, max_s: 60, ...before?.drain, ...given(put.drain) },
    max_body_mb: put.max_body_mb ?? before?.max_body_mb ?? 100,
    cache: { enabled: kind.cached, ttl_s: 86_400, shared: false, ...before?.cache, ...given(put.cache) },
    defaults: put.defaults ?? before?.defaults ?? {},
    bounds: put.bounds ?? before?.bounds ?? kind.bounds,
    forbid: put.forbid ?? before?.forbid ?? kind.forbid,
    results: { keep_days: 30, ...before?.results, ...given(put.results) },
    abandon: put.abandon ?? before?.abandon ?? "finish",
    price: put.price ?? before?.price ?? PER_RESULT,
  };
}
