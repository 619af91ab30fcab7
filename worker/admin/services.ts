/** The admin calls of services. A service is one model behind one public route. */
import { z } from "zod";
import { listed } from "../services/catalog.ts";
import { deleteService, putService, setPaused } from "../db/admin-queries.ts";
import { countServices, listingsOf, pageOfServices } from "../db/list-queries.ts";
import { SERVICES_MAX, serviceById, type ServiceRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { completeService } from "../services/kinds.ts";
import { invalid, isRefusal, refuse, type Refusal } from "../refusal.ts";
import { Id } from "../api/schema-parts.ts";
import { poolStatuses } from "../operate/live.ts";
import { type Service, ServicePut } from "../services/service.ts";
import { announce } from "./announce.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { checkFields } from "../api/json-body.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { LiveServiceView, liveServiceView, ServiceView, serviceView } from "./views.ts";

/** Portico's own path prefixes; a service's route may not be under one. */
const OWN_PATHS = [
  "/admin",
  "/v1",
  "/replicate",
  "/fal",
  "/health",
  "/ready",
  "/cluster",
  "/metrics",
  "/autoscale",
  "/openapi.json",
  "/docs",
  "/console",
  "/.well-known",
];

/**
 * Limit in characters of JSON: every isolate holds all services, and a change to one is a single row of the audit log.
 */
const SERVICE_LENGTH_MAX = 256 * 1024;

const tag = "Services";
const one = { description: "The service.", schema: ServiceView };
type Named<Body = unknown> = Call<Body, unknown, "id">;

export const serviceRoutes: Route[] = [
  route({
    method: "PUT",
    path: "/v1/services/{id}",
    role: "admin",
    tag,
    summary: "Create a service, or merge into it",
    description:
      "`kind` and `route` are required for creation; `kind` cannot be changed. Defaults apply only to what was never set.",
    body: ServicePut,
    answers: { 200: one, 201: { ...one, description: "The new service." } },
    run: (call) => attempt(() => put(call)),
  }),
  route({
    method: "GET",
    path: "/v1/services",
    role: "read",
    tag,
    summary: "List services with their queues",
    query: PageQuery,
    answers: { 200: { description: "Services by id.", schema: listOf(LiveServiceView) } },
    run: ({ env, query }) => list(env, query),
  }),
  route({
    method: "GET",
    path: "/v1/services/{id}",
    role: "read",
    tag,
    summary: "Show a service with its queue",
    answers: { 200: { description: "The service.", schema: LiveServiceView } },
    run: async ({ env, params }) => showLive(env, params.id),
  }),
  route({
    method: "DELETE",
    path: "/v1/services/{id}",
    role: "admin",
    tag,
    summary: "Delete a service",
    description: "Its listings are deleted too; cards stay. Running requests end normally; waiting ones are refused.",
    answers: { 204: { description: "Deleted.", schema: null } },
    run: (call) => attempt(() => remove(call)),
  }),
  route({
    method: "POST",
    path: "/v1/services/{id}/pause",
    role: "ops",
    tag,
    summary: "Refuse new requests to a service",
    answers: { 200: one },
    run: (call) => attempt(() => turn(call, true)),
  }),
  route({
    method: "POST",
    path: "/v1/services/{id}/resume",
    role: "ops",
    tag,
    summary: "Accept new requests again",
    answers: { 200: one },
    run: (call) => attempt(() => turn(call, false)),
  }),
];

async function put(call: Named<ServicePut>): Promise<Changed<Answer>> {
  const { env, trace, params, body } = call;
  const before = await serviceById(env, params.id);
  const config = before === null ? await newService(env, params.id, body) : merged(body, before.config);
  if (isRefusal(config)) return config;
  if (JSON.stringify(config) !== JSON.stringify(before?.config)) {
    const outcome = await putService(
      env,
      params.id,
      before,
      config,
      changeOf(call, "service.put", params.id, before?.config ?? null, config),
    );
    if (outcome !== "done") return outcome;
  }
  await announce(env, trace, [params.id], []);
  return show(env, params.id, before === null ? 201 : 200);
}

async function newService(env: Env, id: string, body: ServicePut): Promise<Service | Refusal> {
  const named = checkFields(Id, id);
  if (isRefusal(named)) return { ...named, param: "id" };
  if (body.kind === undefined) return invalid("kind", "service_required");
  if (body.route === undefined) return invalid("route", "service_required");
  if ((await countServices(env)) >= SERVICES_MAX) return invalid("id", "services_at_most", { max: SERVICES_MAX });
  return refuseUnfit(completeService({ ...body, kind: body.kind, route: body.route }, null));
}

function merged(body: ServicePut, before: Service): Service | Refusal {
  // The defaults of a kind (paths, bounds, forbidden fields) are set on creation and would not follow a change of kind.
  if (body.kind !== undefined && body.kind !== before.kind) return invalid("kind", "kind_fixed", { kind: before.kind });
  return refuseUnfit(completeService({ ...body, kind: before.kind, route: body.route ?? before.route }, before));
}

function refuseUnfit(service: Service): Service | Refusal {
  if (/\/\.{1,2}\//.test(service.route)) return invalid("route", "no_dot_segments");
  const own = OWN_PATHS.find((path) => service.route.startsWith(`${path}/`));
  if (own !== undefined) return invalid("route", "own_path", { path: own });
  const unlisted = unlistedTask(service);
  if (unlisted !== null) return unlisted;
  if (JSON.stringify(service).length <= SERVICE_LENGTH_MAX) return service;
  const lengths = Object.entries(service).map(([field, value]) => ({ field, length: JSON.stringify(value).length }));
  const longest = lengths.reduce((a, b) => (b.length > a.length ? b : a));
  return invalid(longest.field, "service_length", { max: SERVICE_LENGTH_MAX });
}

/** Refuses a task whose path is not listed as a POST that runs. */
function unlistedTask(service: Service): Refusal | null {
  for (const [name, task] of Object.entries(service.dialects)) {
    if (task === null) continue;
    const entry = listed({ route: service.route, config: service }, "POST", service.route + task.path);
    if (isRefusal(entry) || entry.as !== "run") return invalid(`dialects.${name}.path`, "task_unlisted");
  }
  return null;
}

async function remove(call: Named): Promise<Changed<Answer>> {
  const { env, trace, params } = call;
  const before = await serviceById(env, params.id);
  if (before === null) return refuse("not_found");
  const listings = await listingsOf(env, "service", [params.id]);
  const outcome = await deleteService(env, before, changeOf(call, "service.delete", params.id, before.config, null));
  if (outcome !== "done") return outcome;
  await announce(
    env,
    trace,
    [params.id],
    listings.map((listing) => listing.cardId),
  );
  return { status: 204, body: null };
}

async function turn(call: Named, paused: boolean): Promise<Changed<Answer>> {
  const { env, trace, params } = call;
  const before = await serviceById(env, params.id);
  if (before === null) return refuse("not_found");
  if (before.paused !== paused) {
    const change = changeOf(
      call,
      paused ? "service.pause" : "service.resume",
      params.id,
      { paused: before.paused },
      { paused },
    );
    const outcome = await setPaused(env, before, paused, change);
    if (outcome !== "done") return outcome;
  }
  await announce(env, trace, [params.id], []);
  return show(env, params.id, 200);
}

async function show(env: Env, id: string, status: 200 | 201): Promise<Answer | Refusal> {
  const [row, listings] = await Promise.all([serviceById(env, id), listingsOf(env, "service", [id])]);
  return row === null ? refuse("not_found") : { status, body: serviceView(row, listings) };
}

async function showLive(env: Env, id: string): Promise<Answer | Refusal> {
  const [row, listings] = await Promise.all([serviceById(env, id), listingsOf(env, "service", [id])]);
  if (row === null) return refuse("not_found");
  const live = await poolStatuses(env, [id]);
  return { status: 200, body: liveServiceView(row, listings, live.get(id)) };
}

async function list(env: Env, query: z.output<typeof PageQuery>): Promise<Answer | Refusal> {
  const from = positionOf(query.cursor, z.tuple([z.string()]));
  if (isRefusal(from)) return from;
  const rows = await pageOfServices(env, from.at, query.limit);
  const ids = rows.slice(0, query.limit).map((row) => row.id);
  const [listings, live] = await Promise.all([listingsOf(env, "service", ids), poolStatuses(env, ids)]);
  return page(
    rows,
    query.limit,
    (row: ServiceRow) => [row.id],
    (row) => liveServiceView(row, listings, live.get(row.id)),
  );
}
