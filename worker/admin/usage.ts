/** A tenant's usage for operators, in the same format as the tenant's own `/v1/usage`. */
import { tenantById } from "../db/list-queries.ts";
import { refuse } from "../refusal.ts";
import { USAGE, UsageQuery, UsageView, usageOf } from "../api/usage.ts";
import { route, type Route } from "./route.ts";

export const usageRoutes: Route[] = [
  route({
    method: "GET",
    path: "/v1/tenants/{id}/usage",
    role: "read",
    tag: "Usage",
    summary: "A tenant's usage",
    description: USAGE,
    query: UsageQuery,
    answers: {
      200: { description: "A page of rows, in the order of day, service and key.", schema: UsageView, csv: true },
    },
    run: async ({ env, trace, params, query }) =>
      (await tenantById(env, params.id)) === null
        ? refuse("not_found")
        : usageOf(env, trace, params.id, query, Date.now()),
  }),
];
