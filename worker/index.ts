/** The Worker's entry point: the table of routes. */
import { type Context, Hono } from "hono";
import { adminApp } from "./admin/index.ts";
import { sweep } from "./results/ageing.ts";
import { catalog, serviceOf, target } from "./services/catalog.ts";
import { fal, FAL_ROUTES } from "./dialects/fal.ts";
import { falRefusal } from "./dialects/fal/refusals.ts";
import { renderRefusal } from "./dialects/native.ts";
import { getModel, listModels, OPENAI_CALLS } from "./dialects/openai.ts";
import { replicateApp } from "./dialects/replicate.ts";
import { config, type Env } from "./env.ts";
import { explainFingerprint } from "./api/explain.ts";
import { door } from "./door.ts";
import { cancelJob, createJob, getJob, listJobs } from "./jobs/api.ts";
import { createBatch, getBatch } from "./jobs/batches.ts";
import { jobEvents } from "./jobs/events.ts";
import { getDelivery, getSecret, listDeliveries, replayDelivery, rotateSecret } from "./jobs/webhooks-api.ts";
import { operateApp } from "./operate/index.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "./refusal.ts";
import { getRequest } from "./api/requests.ts";
import { deleteResult, getResult } from "./results/results.ts";
import type { CallContext } from "./call-context.ts";
import { serve } from "./serve.ts";
import type { App } from "./trace.ts";
import { getUsage } from "./api/usage.ts";

export { Backlog } from "../durable-objects/backlog.ts";
export { Card } from "../durable-objects/card.ts";
export { Idempotency } from "../durable-objects/idempotency.ts";
export { Courier } from "../durable-objects/courier.ts";
export { Job } from "../durable-objects/job.ts";
export { Pool } from "../durable-objects/pool.ts";
export { Tenant } from "../durable-objects/tenant.ts";
export { RunJob } from "./jobs/run-job.ts";
export { Sender } from "./jobs/sender.ts";

const app = new Hono<App>();

app.use(door);

app.route("/", operateApp);
app.route("/admin", adminApp);
app.route("/replicate/v1", replicateApp(contextOf));

app.on(["GET", "HEAD"], "/v1/results/:id", (c) => reply(c, getResult(askingOf(c))));
app.delete("/v1/results/:id", (c) => reply(c, deleteResult(askingOf(c))));
app.all("/v1/results/:id", (c) => only(c, "GET, HEAD, DELETE"));
app.get("/v1/requests/:id", (c) => reply(c, getRequest(c.req.raw, c.env, c.var.trace, base(c), c.req.param("id"))));
app.all("/v1/requests/:id", (c) => only(c, "GET, HEAD"));
app.post("/v1/fingerprint", (c) => reply(c, explainFingerprint(c.req.raw, c.env, c.var.trace)));
app.all("/v1/fingerprint", (c) => only(c, "POST"));
app.get("/v1/usage", (c) => reply(c, getUsage(c.req.raw, c.env, c.var.trace)));
app.all("/v1/usage", (c) => only(c, "GET, HEAD"));

app.post("/v1/jobs", (c) => reply(c, createJob(contextOf(c))));
app.get("/v1/jobs", (c) => reply(c, listJobs(contextOf(c))));
app.all("/v1/jobs", (c) => only(c, "GET, HEAD, POST"));
app.get("/v1/jobs/:id", (c) => reply(c, getJob(contextOf(c), c.req.param("id"))));
app.all("/v1/jobs/:id", (c) => only(c, "GET, HEAD"));
app.post("/v1/jobs/:id/cancel", (c) => reply(c, cancelJob(contextOf(c), c.req.param("id"))));
app.all("/v1/jobs/:id/cancel", (c) => only(c, "POST"));
app.get("/v1/jobs/:id/events", (c) => reply(c, jobEvents(contextOf(c), c.req.param("id"))));
app.all("/v1/jobs/:id/events", (c) => only(c, "GET, HEAD"));

app.post("/v1/batches", (c) => reply(c, createBatch(contextOf(c))));
app.all("/v1/batches", (c) => only(c, "POST"));
app.get("/v1/batches/:id", (c) => reply(c, getBatch(contextOf(c), c.req.param("id"))));
app.all("/v1/batches/:id", (c) => only(c, "GET, HEAD"));

app.get("/v1/models", (c) => reply(c, listModels(contextOf(c))));
app.get("/v1/models/:id", (c) => reply(c, getModel(contextOf(c), c.req.param("id"))));
app.on("ALL", ["/v1/models", "/v1/models/:id"], (c) => only(c, "GET, HEAD"));
for (const [path, call] of Object.entries(OPENAI_CALLS)) {
  app.post(path, (c) => reply(c, call(contextOf(c))));
  app.all(path, (c) => only(c, "POST"));
}
for (const [method, path] of FAL_ROUTES) app.on(method, path, (c) => fal(contextOf(c)));
app.all("/fal/*", (c) => fal(contextOf(c)));
app.get("/v1/webhooks/secret", (c) => reply(c, getSecret(contextOf(c))));
app.all("/v1/webhooks/secret", (c) => only(c, "GET, HEAD"));
app.post("/v1/webhooks/secret/rotate", (c) => reply(c, rotateSecret(contextOf(c))));
app.all("/v1/webhooks/secret/rotate", (c) => only(c, "POST"));
app.get("/v1/webhooks/deliveries", (c) => reply(c, listDeliveries(contextOf(c))));
app.all("/v1/webhooks/deliveries", (c) => only(c, "GET, HEAD"));
app.get("/v1/webhooks/deliveries/:id", (c) => reply(c, getDelivery(contextOf(c), c.req.param("id"))));
app.all("/v1/webhooks/deliveries/:id", (c) => only(c, "GET, HEAD"));
app.post("/v1/webhooks/deliveries/:id/replay", (c) => reply(c, replayDelivery(contextOf(c), c.req.param("id"))));
app.all("/v1/webhooks/deliveries/:id/replay", (c) => only(c, "POST"));

/** Everything else is a service's route or 404. */
app.all("*", async (c) => {
  const at = target(c.req.url);
  if (isRefusal(at)) return renderRefusal(at, c.var.trace);
  const service = serviceOf(await catalog(c.env), at.path);
  if (service === null)
    return renderRefusal(refuse("not_found", at.path === "/" ? { facts: { docs: "/docs" } } : {}), c.var.trace);
  return reply(c, serve({ ...contextOf(c), service, target: at }));
});

app.onError((error, c) => {
  // The caller learns nothing about the error; the log has it under the request's id.
  console.error(JSON.stringify({ event: "crash", request: c.var.trace.id, error: String(error), stack: error.stack }));
  const render = c.req.path.startsWith("/fal/") ? falRefusal : renderRefusal;
  return render(refuse("internal", { started: "unknown" }), c.var.trace);
});

async function reply(c: Context<App>, work: Promise<Response | Refusal>): Promise<Response> {
  const outcome = await work;
  return isRefusal(outcome) ? renderRefusal(outcome, c.var.trace) : outcome;
}

function only(c: Context<App>, allow: string): Response {
  return renderRefusal(notAllowed(c.req.method, allow), c.var.trace);
}

/** Our public address: the configured one, or the one that the request came to. */
function base(c: Context<App>): string {
  return config(c.env).publicUrl ?? new URL(c.req.url).origin;
}

function contextOf(c: Context<App>): CallContext {
  return { request: c.req.raw, env: c.env, ctx: c.executionCtx, trace: c.var.trace, base: base(c) };
}

function askingOf(c: Context<App, "/v1/results/:id">) {
  return { ...contextOf(c), id: c.req.param("id") };
}

/** Runs on the schedule set by `triggers.crons` in wrangler.toml. */
function scheduled({ scheduledTime }: ScheduledController, env: Env): Promise<void> {
  return sweep(env, scheduledTime);
}

export default Object.assign(app, { scheduled }) satisfies ExportedHandler<Env>;
