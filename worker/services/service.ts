/**
 * Schemas of services, cards and listings. They validate the admin API, generate the OpenAPI document, and define the
 * types that the stages use. Defaults are in kinds.ts; tenants and keys are in tenant.ts. No I/O.
 */
import { z } from "zod";
import { Dialects } from "../dialects/mapping.ts";
import { VISIBILITIES } from "../results/delivery.ts";
import { count, Id, says } from "../api/schema-parts.ts";

const seconds = (max: number) => z.number().positive().max(max);

/** Longest run, seconds: what a job's Workflow step is given. */
export const RUN_S_MAX = 86_400;

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

/** One path below the route. A trailing `*` matches any rest; `*` as the method matches any method. */
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

/** Names of top-level fields: a scan of a spooled body keeps only these. */
const priced = z
  .array(
    z
      .string()
      .max(200)
      .regex(/^[^.]+$/, "a field of the body, without dots"),
  )
  .min(1)
  .max(20);
const per = z.number().positive();
const hits = z.boolean().default(false).meta(says("Whether a stored answer costs the same, or nothing (the default)."));

export const Price = z
  .union(
    [
      z.strictObject({ flat: z.number().min(0).max(1_000_000).meta(says("For each result.")), hits }),
      z.strictObject({ product: priced.meta(says("Numbers; their product, for each result, is divided.")), per, hits }),
      z.strictObject({ characters: priced.meta(says("Texts; their characters are added, and divided.")), per, hits }),
    ],
    { error: "must be {flat}, {product, per} or {characters, per}" },
  )
  .meta(
    says(
      "Cost units of a run, in thousandths, at most a million. A field that is not given counts as in `defaults`; a number else as 1. Default 1 for each result. Replaced as a whole.",
    ),
  );
export type Price = z.infer<typeof Price>;
export const PER_RESULT: Price = { flat: 1, hits: false };

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
    run_s: z
      .number()
      .min(1)
      .max(RUN_S_MAX)
      .meta(says("The longest run, from the claim of its slot to the last byte. Default 86400.")),
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
  /** Any JSON value, since a parsed body can hold any. */
  defaults: z
    .record(z.string(), z.unknown())
    .meta(says("What the origin takes for fields that are not given; filled into cache keys.")),
  bounds: Bounds,
  forbid: Forbid,
  results: z.strictObject({
    keep_days: z.number().positive().max(36_500).meta(says("Default 30.")),
    visibility: z
      .enum(VISIBILITIES)
      .meta(says("Who may read a result whose request does not say it by `X-Result-Visibility`. Default `signed`.")),
    infrequent_after_days: z
      .number()
      .min(1)
      .max(36_500)
      .nullable()
      .meta(says("Older results go to R2's Infrequent Access class where that costs less. Default null: never.")),
  }),
  abandon: z
    .enum(["finish", "cancel"])
    .meta(says("When the caller hangs up: read on and keep the result, or abort the origin. Default `finish`.")),
  dialects: Dialects.meta(
    says("How foreign dialects reach the origin's API, by task. Default: as the kind's usual origin is reached."),
  ),
  price: Price,
});
export type Service = z.infer<typeof Service>;

/** Body of `PUT /admin/v1/services/ID`. All fields are optional in a merge; a creation needs `kind` and `route`. */
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
    defaults: Service.shape.defaults.optional().meta(says("Those that are named change; null takes one away.")),
    bounds: z
      .record(z.string().min(1).max(200), z.number().nonnegative().nullable())
      .optional()
      .meta(says("Those that are named change; null takes one away.")),
    forbid: Forbid.optional(),
    results: Service.shape.results.partial().optional(),
    abandon: Service.shape.abandon.optional(),
    dialects: Service.shape.dialects.optional(),
    price: Price.optional(),
  })
  .meta({ id: "ServicePut" });
export type ServicePut = z.infer<typeof ServicePut>;

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

/** Body of `PUT /admin/v1/services/ID/cards/CARD`; `origin` is required when the listing is created. */
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
