/**
 * What a service, a card, a listing, a tenant and a key are: the zod schemas that validate the admin API, that the
 * OpenAPI document is made from, and whose types the stages use. No I/O.
 */
import { z } from "zod";

const seconds = (max: number) => z.number().positive().max(max);
const count = (max: number) => z.int().min(1).max(max);
/** What a field means, for the OpenAPI document. */
const says = (description: string) => ({ description });

/** Ids that people choose for services and cards. */
export const Id = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "1 to 63 of a-z 0-9 . _ - , starting with a letter or digit");

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

/** One path below the route; `*` at the end matches any rest, `*` as method any method. */
const ServicePath = z.strictObject({
  method: z.enum([...METHODS, "*"]),
  path: z
    .string()
    .max(512)
    .regex(/^(?!\/)[^?#\\%]*$/, "a path below the route, without a leading slash, query or escape"),
  as: z.enum(["run", "read"]).meta(says("`run` takes a slot; `read` takes none and has a short timeout.")),
});

const Bounds = z
  .record(z.string().min(1).max(200), z.number().nonnegative())
  .meta(says("The largest number, or the longest text in characters, that a field of the body may have."));
const Forbid = z
  .array(z.string().min(1).max(200))
  .max(100)
  .meta(says("Fields that may not be given; a trailing `*` means the whole object."));

export const Kind = z.enum(["image", "tts", "http"]);
export type Kind = z.infer<typeof Kind>;

const Route = z
  .string()
  .max(256)
  .regex(/^\/(?:[A-Za-z0-9._~-]+\/)*$/, "a path that starts and ends with a slash, without escapes")
  .meta(says("The public path of the service; the longest route wins."));

const Probe = z.strictObject({
  path: z.string().regex(/^\//).max(512).meta(says("Path at the origin.")),
  busy: z
    .string()
    .regex(/^(\/([^~/]|~[01])*)*$/)
    .max(256)
    .meta(says("JSON pointer (RFC 6901) to the count of running requests.")),
});

export const Service = z.strictObject({
  kind: Kind,
  route: Route,
  paths: z
    .array(ServicePath)
    .max(200)
    .meta(says("The origin's paths that callers may use. Default: what the kind of service stands for.")),
  model_version: z
    .string()
    .max(200)
    .nullable()
    .meta(says("Part of every cache key: a new one makes old answers unfindable.")),
  queue: z.strictObject({
    max: z.int().min(0).max(1_000_000).meta(says("Length of the waiting room. Default 200.")),
    timeout_s: seconds(3600).meta(says("Longest wait. Default 60.")),
  }),
  timeouts: z.strictObject({
    read_s: seconds(3600).meta(says("The longest silence before or between bytes. Default 300.")),
  }),
  retry: z.strictObject({
    tries: count(10).meta(says("Cards tried for one request. Default 3.")),
    timeout_s: seconds(3600).meta(says("No new try starts later than this after the first. Default 30.")),
  }),
  breaker: z.strictObject({
    max_fails: count(1_000_000).meta(says("Failures that take a card out. Default 3.")),
    fail_timeout_s: seconds(86_400).meta(
      says("Time within which they count, and for which the card is out. Default 30."),
    ),
  }),
  drain: z.strictObject({
    probe: Probe.nullable().meta(says("Where the origin says how much it runs.")),
    max_s: seconds(86_400).meta(
      says("A slot that ended uncleanly is free after this: set it to your longest run. Default 60."),
    ),
  }),
  max_body_mb: z.number().positive().max(5_000).meta(says("Default 100.")),
  cache: z.strictObject({
    enabled: z.boolean().meta(says("Default: true for image and tts, false for http.")),
    ttl_s: seconds(31_536_000).meta(says("Default 86400.")),
    shared: z.boolean().meta(says("One cache for all tenants. Default false.")),
  }),
  /** Any JSON: what is parsed from a body cannot be anything else. */
  defaults: z
    .record(z.string(), z.unknown())
    .meta(says("What the origin takes for fields that are not given; filled into cache keys.")),
  bounds: Bounds,
  forbid: Forbid,
  results: z.strictObject({ keep_days: z.number().positive().max(36_500).meta(says("Default 30.")) }),
  abandon: z
    .enum(["finish", "cancel"])
    .meta(says("When the caller hangs up: read on and keep the result, or abort the origin. Default `finish`.")),
});
export type Service = z.infer<typeof Service>;

/** What `PUT /admin/v1/services/ID` takes: everything may be left out on a merge; kind and route are needed on creation. */
export const ServicePut = z
  .strictObject({
    kind: Kind.optional(),
    route: Route.optional(),
    paths: Service.shape.paths.optional(),
    model_version: Service.shape.model_version.optional(),
    queue: Service.shape.queue.partial().optional(),
    timeouts: Service.shape.timeouts.partial().optional(),
    retry: Service.shape.retry.partial().optional(),
    breaker: Service.shape.breaker.partial().optional(),
    drain: Service.shape.drain.partial().optional(),
    max_body_mb: Service.shape.max_body_mb.optional(),
    cache: Service.shape.cache.partial().optional(),
    defaults: Service.shape.defaults.optional(),
    bounds: Bounds.optional(),
    forbid: Forbid.optional(),
    results: Service.shape.results.partial().optional(),
    abandon: Service.shape.abandon.optional(),
  })
  .meta({ id: "ServicePut" });
export type ServicePut = z.infer<typeof ServicePut>;

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
  };
}

/** A partial object without its undefined members, so that spreading it keeps what stands below. */
function given<T extends object>(part: T | undefined): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(part ?? {}).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

export const CardStateName = z.enum(["active", "draining", "disabled"]);

export const CardPatch = z
  .strictObject({
    server: Id.nullable().optional().meta(says("The machine that the card is in.")),
    gpu: z.int().min(0).max(1023).nullable().optional().meta(says("Its number there.")),
    slots: z.int().min(1).max(1024).optional().meta(says("Requests that it runs at once. Default 2.")),
    state: CardStateName.optional().meta(
      says("Draining and disabled cards get nothing new; disabled ones are not counted."),
    ),
  })
  .meta({ id: "CardPatch" });

/** What `PUT /admin/v1/services/ID/cards/CARD` takes; `origin` is needed on creation of the listing. */
export const ListingPut = z
  .strictObject({
    origin: z.url().max(2048).optional().meta(says("Where the card answers for this service: `https:` and public.")),
    transport: z.enum(["direct", "tunnel", "vpc"]).optional().meta(says("How it is reached. Default `direct`.")),
    weight: z.number().positive().max(1000).optional().meta(says("Share of the service's work. Default 1.")),
    ...CardPatch.shape,
  })
  .meta({ id: "ListingPut" });

export const HeartbeatBody = z
  .strictObject({
    gpu_memory_ratio: z.number().min(0).max(1).optional(),
    gpu_utilization: z.number().min(0).max(1).optional(),
    running: z.int().min(0).max(1_000_000).optional(),
    at: z.iso.datetime({ offset: true }).optional(),
  })
  .meta({ id: "HeartbeatBody" });

const MILLION = 1_000_000;

export const Limits = z.strictObject({
  requests_per_minute: count(MILLION).meta(says("Default 600.")),
  burst: count(MILLION).meta(says("Requests at once above that pace. Default 60.")),
  concurrent: count(MILLION).meta(says("Slots held at once, per service; more requests wait. Default 6.")),
  waiting: z.int().min(0).max(MILLION).meta(says("Requests in line, per service; more are refused. Default 100.")),
  jobs_waiting: z.int().min(0).max(MILLION).meta(says("Default 1000.")),
  results_per_month: z.int().min(0).max(MILLION).nullable().meta(says("Images or sounds a month; null is no limit.")),
});
export type Limits = z.infer<typeof Limits>;

export const DEFAULT_LIMITS: Limits = {
  requests_per_minute: 600,
  burst: 60,
  concurrent: 6,
  waiting: 100,
  jobs_waiting: 1000,
  results_per_month: null,
};

const tenantName = z.string().trim().min(1).max(200);
const weight = z
  .number()
  .min(0.01)
  .max(1000)
  .meta(says("Share of the slots when there are not enough for everybody. Default 1."));

export const TenantCreate = z
  .strictObject({ name: tenantName, limits: Limits.partial().optional(), weight: weight.optional() })
  .meta({ id: "TenantCreate" });
export const TenantPatch = z
  .strictObject({
    name: tenantName.optional(),
    limits: Limits.partial().optional(),
    weight: weight.optional(),
    state: z.enum(["active", "disabled"]).optional(),
  })
  .meta({ id: "TenantPatch" });

export const Scope = z.enum(["infer", "jobs", "results", "usage"]);
export type Scope = z.infer<typeof Scope>;

export const KeyCreate = z
  .strictObject({
    name: z.string().max(200).optional(),
    scopes: z.array(Scope).min(1).optional(),
    services: z.array(Id).min(1).max(1000).optional(),
    expires_at: z.iso.datetime({ offset: true }).optional(),
  })
  .meta({ id: "KeyCreate" });
export const KeyPatch = z
  .strictObject({
    name: z.string().max(200).nullable().optional(),
    scopes: z.array(Scope).min(1).nullable().optional(),
    services: z.array(Id).min(1).max(1000).nullable().optional(),
    expires_at: z.iso.datetime({ offset: true }).nullable().optional(),
    state: z.enum(["active", "disabled"]).optional(),
  })
  .meta({ id: "KeyPatch" });
export const KeyRotate = z
  .strictObject({
    overlap_s: z.int().min(0).max(31_536_000).optional().meta(says("How long the old key works on. Default 0.")),
  })
  .meta({ id: "KeyRotate" });
