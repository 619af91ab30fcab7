/** Schemas and types of tenants and keys, as in service.ts. No I/O. */
import { z } from "zod";
import { wrong } from "../details.ts";
import { count, Id, says } from "../api/schema-parts.ts";

const MILLION = 1_000_000;
/** Still an exact integer when counted in thousandths. */
const COST_PER_MONTH_MAX = 1_000_000_000;

const inService = {
  requests_per_minute: count(MILLION).meta(says("Requests accepted per minute. Default 600.")),
  burst: count(MILLION).meta(says("Requests accepted at once before that rate applies. Default 60.")),
  concurrent: count(MILLION).meta(says("Slots held at once, per service; further requests wait. Default 6.")),
  waiting: z
    .int()
    .min(0)
    .max(MILLION)
    .meta(says("Waiting requests, per service; further ones are refused. Default 100.")),
  per_address: count(MILLION)
    .nullable()
    .meta(says("Waiting or running requests, per service and client address (IPv6: its /64); null: no limit.")),
};

/** Overrides of the tenant's limits in one service. */
const ServiceLimits = z.strictObject(inService).partial().meta({
  id: "ServiceLimits",
  description: "With `requests_per_minute` or `burst` the service has a rate of its own in addition to the tenant's.",
});

export const Limits = z.strictObject({
  ...inService,
  jobs_waiting: z.int().min(0).max(MILLION).meta(says("Waiting jobs, over all services. Default 1000.")),
  results_per_month: z.int().min(0).max(MILLION).nullable().meta(says("Images or sounds per month; null: no limit.")),
  cost_per_month: z
    .number()
    .min(0)
    .max(COST_PER_MONTH_MAX)
    .nullable()
    .meta(says("Cost units per month, by the services' `price`, rounded to thousandths; null: no limit.")),
  services: z.record(Id, ServiceLimits).meta(says("Overrides by service id.")),
});
export type Limits = z.infer<typeof Limits>;

export const DEFAULT_LIMITS: Limits = {
  requests_per_minute: 600,
  burst: 60,
  concurrent: 6,
  waiting: 100,
  jobs_waiting: 1000,
  per_address: null,
  results_per_month: null,
  cost_per_month: null,
  services: {},
};

/** Whether this is an origin as browsers send it (RFC 6454 6.2): lower case, no path, no default port of its scheme. */
function isWebOrigin(text: string): boolean {
  return /^https?:\/\/[a-z0-9._:[\]-]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

const WEB_ORIGINS_MAX = 100;
/** More than a scheme, a host name (RFC 1035: 255) and a port need. */
const WEB_ORIGIN_LENGTH_MAX = 300;
const webOrigin = z
  .string()
  .max(WEB_ORIGIN_LENGTH_MAX)
  .refine((text) => text === "*" || isWebOrigin(text), wrong("web_origin"));
export const WebOrigins = z
  .array(webOrigin)
  .max(WEB_ORIGINS_MAX)
  .refine((origins) => origins.length <= 1 || !origins.includes("*"), wrong("any_origin"))
  .meta(says("Web origins whose pages may call with this tenant's keys (CORS); `*` alone allows any. Default: none."));
const LimitsPut = Limits.partial().extend({
  services: z
    .record(Id, ServiceLimits.nullable())
    .optional()
    .meta(says("By service id, merged into the current limits; null removes a service's own limits.")),
});
export type LimitsPut = z.infer<typeof LimitsPut>;

const tenantName = z.string().trim().min(1).max(200);
const weight = z
  .number()
  .min(0.01)
  .max(1000)
  .meta(says("Share of the slots when tenants compete for them. Default 1."));

export const TenantCreate = z
  .strictObject({
    name: tenantName,
    limits: LimitsPut.optional(),
    weight: weight.optional(),
    origins: WebOrigins.optional(),
  })
  .meta({ id: "TenantCreate" });
export const TenantPatch = z
  .strictObject({
    name: tenantName.optional(),
    limits: LimitsPut.optional(),
    weight: weight.optional(),
    origins: WebOrigins.optional(),
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
    overlap_s: z.int().min(0).max(31_536_000).optional().meta(says("How long the old key keeps working. Default 0.")),
  })
  .meta({ id: "KeyRotate" });
