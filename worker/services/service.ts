/**
 * Schemas of services, cards and listings. They validate the admin API, generate the OpenAPI document, and define the
 * types that the stages use. Defaults are in kinds.ts; tenants and keys are in tenant.ts. No I/O.
 */
import { z } from "zod";
import { Dialects } from "../dialects/mapping.ts";
import { VISIBILITIES } from "../results/delivery.ts";
import { wrong } from "../details.ts";
import { count, Id, says } from "../api/schema-parts.ts";

const seconds = (max: number) => z.number().positive().max(max);

/** Longest duration of a run, seconds: the timeout of a job's Workflow step. */
export const RUN_S_MAX = 86_400;

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

/** One path below the route. A trailing `*` matches any rest; `*` as the method matches any method. */
const ServicePath = z.strictObject({
  method: z.enum([...METHODS, "*"]),
  path: z
    .string()
    .max(512)
    .regex(/^(?!\/)[^?#\\%]*$/, wrong("listed_path")),
  as: z.enum(["run", "read"]).meta(says("`run` takes a slot; `read` takes none and has a short timeout.")),
});

const Bounds = z
  .record(z.string().min(1).max(200), z.number().nonnegative())
  .meta(says("Per field of the body: its largest number, or the longest string in characters."));
const Forbid = z
  .array(z.string().min(1).max(200))
  .max(100)
  .meta(says("Fields that requests must not contain; a trailing `*` covers the whole object."));

export const Kind = z.enum(["image", "tts", "http"]);
export type Kind = z.infer<typeof Kind>;

const Route = z
  .string()
  .max(256)
  .regex(/^\/(?:[A-Za-z0-9._~-]+\/)*$/, wrong("route"))
  .meta(says("The public path of the service; the longest route wins."));

const Probe = z.strictObject({
  path: z.string().regex(/^\//, wrong("leading_slash")).max(512).meta(says("Path at the origin.")),
  busy: z
    .string()
    .regex(/^(\/([^~/]|~[01])*)*$/, wrong("json_pointer"))
    .max(256)
    .meta(says("JSON pointer (RFC 6901) to the count of running requests.")),
});

/** Names of top-level fields: a scan of a spooled body keeps only these. */
const priced = z
  .array(
    z
      .string()
      .max(200)
      .regex(/^[^.]+$/, wrong("field_flat")),
  )
  .min(1)
  .max(20);
const per = z.number().positive();
const hits = z
  .boolean()
  .default(false)
  .meta(says("Whether a stored answer costs the same (true) or nothing (false, the default)."));

export const Price = z
  .union(
    [
      z.strictObject({ flat: z.number().min(0).max(1_000_000).meta(says("Price per result.")), hits }),
      z.strictObject({
        product: priced.meta(says("Numeric fields; a result costs their product divided by `per`.")),
        per,
        hits,
      }),
      z.strictObject({
        characters: priced.meta(says("Text fields; a run costs their total number of characters divided by `per`.")),
        per,
        hits,
      }),
    ],
    { error: wrong("price") },
  )
  .meta(
    says(
      "Price of a run in cost units, rounded to thousandths, at most a million. A missing field counts with its value in `defaults`; a number without one counts as 1. Default: 1 per result. A new price replaces the old one as a whole.",
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
    .meta(says("The origin's paths that callers may use. Default: the paths of the service's kind.")),
  model_version: z
    .string()
    .max(200)
    .nullable()
    .meta(says("Part of every cache key: changing it invalidates all stored answers.")),
  queue: z.strictObject({
    max: z.int().min(0).max(1_000_000).meta(says("Longest queue, in requests. Default 200.")),
    timeout_s: seconds(3600).meta(says("Longest wait in the queue. Default 60.")),
  }),
  timeouts: z.strictObject({
    read_s: seconds(3600).meta(says("Longest silence before or between bytes of an answer. Default 300.")),
    run_s: z
      .number()
      .min(1)
      .max(RUN_S_MAX)
      .meta(says("Longest run, from the claim of its slot to the last byte. Default 86400.")),
  }),
  retry: z.strictObject({
    tries: count(10).meta(says("Cards that are tried for one request. Default 3.")),
    timeout_s: seconds(3600).meta(says("No new try starts later than this after the first try. Default 30.")),
  }),
  breaker: z.strictObject({
    max_fails: count(1_000_000).meta(says("Failures after which a card is taken out of service. Default 3.")),
    fail_timeout_s: seconds(86_400).meta(
      says("Time within which failures count, and for which the card stays out. Default 30."),
    ),
  }),
  drain: z.strictObject({
    probe: Probe.nullable().meta(says("Where the origin reports how many requests it is running.")),
    max_s: seconds(86_400).meta(
      says("A slot whose run ended uncleanly becomes free after this time; set it to your longest run. Default 60."),
    ),
  }),
  max_body_mb: z.number().positive().max(5_000).meta(says("Largest request body, MB. Default 100.")),
  cache: z.strictObject({
    enabled: z.boolean().meta(says("Whether answers are stored. Default: true for image and tts, false for http.")),
    ttl_s: seconds(31_536_000).meta(says("How long a stored answer is used. Default 86400.")),
    shared: z.boolean().meta(says("One cache for all tenants. Default false.")),
  }),
  /** Any JSON value, since a parsed body can hold any. */
  defaults: z
    .record(z.string(), z.unknown())
    .meta(says("Values that the origin assumes for missing fields; used in cache keys.")),
  bounds: Bounds,
  forbid: Forbid,
  results: z.strictObject({
    keep_days: z.number().positive().max(36_500).meta(says("How long results are kept, days. Default 30.")),
    visibility: z
      .enum(VISIBILITIES)
      .meta(says("Who may read a result when its request has no `X-Result-Visibility`. Default `signed`.")),
    infrequent_after_days: z
      .number()
      .min(1)
      .max(36_500)
      .nullable()
      .meta(
        says("Results older than this go to R2's Infrequent Access class if that costs less. Default null: never."),
      ),
  }),
  abandon: z
    .enum(["finish", "cancel"])
    .meta(
      says(
        "If the caller disconnects: `finish` reads on and keeps the result; `cancel` aborts the origin's request. Default `finish`.",
      ),
    ),
  dialects: Dialects.meta(
    says("How the dialects map to the origin's API, per task. Default: the mapping of the service's kind."),
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
    defaults: Service.shape.defaults.optional().meta(says("Merged by name; null removes an entry.")),
    bounds: z
      .record(z.string().min(1).max(200), z.number().nonnegative().nullable())
      .optional()
      .meta(says("Merged by name; null removes an entry.")),
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
    server: Id.nullable().optional().meta(says("The machine that contains the card.")),
    gpu: z.int().min(0).max(1023).nullable().optional().meta(says("The card's number in that machine.")),
    slots: z.int().min(1).max(1024).optional().meta(says("Requests that the card runs at once. Default 2.")),
    state: CardStateName.optional().meta(
      says("Draining and disabled cards get no new work; disabled cards are not counted."),
    ),
  })
  .meta({ id: "CardPatch" });

/** Body of `PUT /admin/v1/services/ID/cards/CARD`; `origin` is required when the listing is created. */
export const ListingPut = z
  .strictObject({
    origin: z.url().max(2048).optional().meta(says("URL at which the card serves this service: `https:`, public.")),
    transport: z
      .enum(["direct", "tunnel", "vpc"])
      .optional()
      .meta(says("How the origin is reached. Default `direct`.")),
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
