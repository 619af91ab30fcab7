/** The admin calls of tenants. */
import { z } from "zod";
import { forgetCallers } from "../auth.ts";
import { closeTenant, createTenant, deleteTenant, patchTenant } from "../db/caller-queries.ts";
import { pageOfTenants, tenantById } from "../db/list-queries.ts";
import type { TenantRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { randomText } from "../caller/keys.ts";
import { isRefusal, refuse, type Refusal } from "../refusal.ts";
import { allRecorded } from "../results/rows.ts";
import { removeMatching } from "../results/removal.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { TenantCreate, TenantPatch } from "../caller/tenant.ts";
import { completeLimits } from "../caller/tenant-limits.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { TenantView, tenantView } from "./views.ts";

/** Bounds one call to seconds of work rather than minutes. */
const ROUNDS_MAX = 20;

const tag = "Tenants";
const one = { description: "The tenant.", schema: TenantView };
type Named<B> = Call<B, unknown, "id">;

export const tenantRoutes: Route[] = [
  route({
    method: "POST",
    path: "/v1/tenants",
    role: "admin",
    tag,
    summary: "Create a tenant",
    description:
      "`concurrent`, `waiting` and `per_address` count per service; `limits.services` overrides limits in single services. `results_per_month` counts images and sounds, `cost_per_month` what they cost by the services' `price`; both are charged before the run, and refunded if it produced nothing.",
    body: TenantCreate,
    answers: { 201: { ...one, description: "The new tenant." } },
    run: (call) => create(call),
  }),
  route({
    method: "GET",
    path: "/v1/tenants",
    role: "read",
    tag,
    summary: "List tenants",
    query: PageQuery,
    answers: { 200: { description: "Tenants, the oldest first.", schema: listOf(TenantView) } },
    run: async ({ env, query }) => {
      const from = positionOf(query.cursor, z.tuple([z.int(), z.string()]));
      if (isRefusal(from)) return from;
      const rows = await pageOfTenants(env, from.at, query.limit);
      return page(rows, query.limit, (row) => [row.createdAt, row.id], tenantView);
    },
  }),
  route({
    method: "GET",
    path: "/v1/tenants/{id}",
    role: "read",
    tag,
    summary: "Show a tenant",
    answers: { 200: one },
    run: ({ env, params }) => show(env, params.id),
  }),
  route({
    method: "PATCH",
    path: "/v1/tenants/{id}",
    role: "admin",
    tag,
    summary: "Change a tenant",
    description:
      "Omitted limits stay as they are, also in `services`; null removes a service's own limits. `origins` is replaced as a whole. The keys of a disabled tenant are refused.",
    body: TenantPatch,
    answers: { 200: one },
    run: (call) => attempt(() => patch(call)),
  }),
  route({
    method: "DELETE",
    path: "/v1/tenants/{id}",
    role: "admin",
    tag,
    summary: "Delete a tenant with its keys, jobs, results and usage",
    description: `Its keys are refused at once. A tenant with more results than one call removes (${ROUNDS_MAX} thousand) gets 202 and stays disabled; repeat the call to continue.`,
    answers: {
      202: { description: "Jobs, results or usage are left; repeat the call to continue.", schema: TenantView },
      204: { description: "Deleted.", schema: null },
    },
    run: (call) => attempt(() => remove(call)),
  }),
];

async function create(call: Call<z.output<typeof TenantCreate>, unknown, never>): Promise<Answer | Refusal> {
  const { env, body } = call;
  const limits = completeLimits(body.limits);
  if (isRefusal(limits)) return limits;
  const row: TenantRow = {
    id: `ten_${randomText(16)}`,
    name: body.name,
    limits,
    weight: body.weight ?? 1,
    state: "active",
    origins: body.origins ?? [],
    createdAt: Date.now(),
  };
  const after = tenantView(row);
  await createTenant(env, row, changeOf(call, "tenant.create", row.id, null, after));
  return { status: 201, body: after };
}

async function patch(call: Named<z.output<typeof TenantPatch>>): Promise<Changed<Answer>> {
  const { env, params, body } = call;
  const before = await tenantById(env, params.id);
  if (before === null) return refuse("not_found");
  const limits = completeLimits(body.limits, before.limits);
  if (isRefusal(limits)) return limits;
  const after = {
    name: body.name ?? before.name,
    limits,
    weight: body.weight ?? before.weight,
    origins: body.origins ?? before.origins,
    state: body.state ?? before.state,
  };
  const shown = tenantView({ ...before, ...after });
  if (JSON.stringify(shown) !== JSON.stringify(tenantView(before))) {
    const outcome = await patchTenant(
      env,
      before,
      after,
      changeOf(call, "tenant.patch", params.id, tenantView(before), shown),
    );
    if (outcome !== "done") return outcome;
  }
  forgetCallers();
  return { status: 200, body: shown };
}

async function remove(call: Named<unknown>): Promise<Changed<Answer>> {
  const { env, params } = call;
  const before = await tenantById(env, params.id);
  if (before === null) return refuse("not_found");
  const outcome = await closeTenant(env, before, changeOf(call, "tenant.delete", params.id, tenantView(before), null));
  if (outcome !== "done") return outcome;
  forgetCallers();
  // Jobs first, so that no running job makes new results.
  const hasNoJobs = await removeJobs(env, params.id);
  await allRecorded();
  const isGone =
    hasNoJobs &&
    (await removeMatching(env, { tenant: params.id }, "all", ROUNDS_MAX)).done &&
    (await removeUsage(env, params.id));
  if (!isGone) return { status: 202, body: tenantView({ ...before, state: "disabled" }) };
  await deleteTenant(env, params.id);
  return { status: 204, body: null };
}

/** Removes a tenant's jobs and webhooks. Returns true when none are left. */
async function removeJobs(env: Env, tenantId: string): Promise<boolean> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (!(await withTimeout(env.BACKLOG.getByName(tenantId).forget()))) continue;
    await withTimeout(env.COURIER.getByName(tenantId).forget());
    return true;
  }
  return false;
}

/** Removes the usage that the Tenant object keeps. Returns false if that failed. */
async function removeUsage(env: Env, tenantId: string): Promise<boolean> {
  try {
    await withTimeout(env.TENANT.getByName(tenantId).forget());
    return true;
  } catch (error) {
    console.warn(JSON.stringify({ event: "usage_not_deleted", tenant: tenantId, error: String(error) }));
    return false;
  }
}

async function show(env: Env, id: string): Promise<Answer | Refusal> {
  const row = await tenantById(env, id);
  return row === null ? refuse("not_found") : { status: 200, body: tenantView(row) };
}
