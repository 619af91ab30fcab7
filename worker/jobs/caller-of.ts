/** The caller of a job, with the tenant's current limits: they may have changed since the job was submitted. */
import type { JobSpec } from "../../durable-objects/job-protocol.ts";
import type { Caller } from "../auth.ts";
import { tenantById } from "../db/list-queries.ts";
import type { Env } from "../env.ts";
import { type Refusal, refuse } from "../refusal.ts";
import { DEFAULT_LIMITS } from "../caller/tenant.ts";

export async function callerOf(env: Env, { tenant: id, key }: JobSpec): Promise<Caller | Refusal> {
  const tenant = await tenantById(env, id);
  if (tenant === null) return refuse("not_found");
  if (tenant.state !== "active") return refuse("tenant_disabled");
  const limits = { ...DEFAULT_LIMITS, ...tenant.limits };
  return { tenant: id, key, limits, weight: tenant.weight, scopes: null, services: null, origins: tenant.origins };
}
