/**
 * The admin API: its route table, mounted at `/admin`. Callers who are not operators learn nothing, not even from a
 * 404.
 */
import { type Context, Hono } from "hono";
import { renderRefusal } from "../dialects/native.ts";
import { isRefusal, notAllowed, refuse } from "../refusal.ts";
import type { App } from "../trace.ts";
import { cardRoutes } from "./cards.ts";
import { purgeRoutes } from "./purge.ts";
import { keyRoutes } from "./keys.ts";
import { ledgerRoutes } from "./ledger.ts";
import { listingRoutes } from "./listings.ts";
import { operatorOf } from "./operator.ts";
import { operatorRoutes } from "./operators.ts";
import { type Route, serve } from "./route.ts";
import { serviceRoutes } from "./services.ts";
import { tenantRoutes } from "./tenants.ts";
import { usageRoutes } from "./usage.ts";

export const adminRoutes: Route[] = [
  ...serviceRoutes,
  ...listingRoutes,
  ...cardRoutes,
  ...tenantRoutes,
  ...keyRoutes,
  ...operatorRoutes,
  ...purgeRoutes,
  ...ledgerRoutes,
  ...usageRoutes,
];

export const adminApp = new Hono<App>();

const inHono = (path: string) => path.replaceAll(/\{(\w+)\}/g, ":$1");

for (const row of adminRoutes) adminApp.on(row.method, inHono(row.path), (c) => serve(c, row));

for (const path of new Set(adminRoutes.map((row) => row.path))) {
  const allow = adminRoutes.filter((row) => row.path === path).map((row) => row.method);
  adminApp.all(inHono(path), (c) => nothing(c, allow));
}
adminApp.all("*", (c) => nothing(c, null));

/** Answers an unknown call: 405 if the path has other methods, else 404; 401 to everybody who is not an operator. */
async function nothing(c: Context<App>, allow: string[] | null): Promise<Response> {
  const operator = await operatorOf(c.env, c.req.raw);
  if (isRefusal(operator)) return renderRefusal(operator, c.get("trace"));
  if (allow === null) return renderRefusal(refuse("not_found"), c.get("trace"));
  const methods = allow.includes("GET") ? [...allow, "HEAD"].join(", ") : allow.join(", ");
  return renderRefusal(notAllowed(c.req.method, methods), c.get("trace"));
}
