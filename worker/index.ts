/** The front door: which path goes where. What each does stands in the file it names. */
import { type Context, Hono } from "hono";
import { adminApp } from "./admin/index.ts";
import { sweep } from "./ageing.ts";
import { catalog, serviceOf, target } from "./catalog.ts";
import { renderRefusal } from "./dialects/native.ts";
import { config, type Env } from "./env.ts";
import { explainFingerprint } from "./explain.ts";
import { door } from "./door.ts";
import { operateApp } from "./operate/index.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "./refusal.ts";
import { getRequest } from "./requests.ts";
import { deleteResult, getResult } from "./results.ts";
import { serve } from "./serve.ts";
import type { App } from "./trace.ts";

export { Card } from "../durable-objects/card.ts";
export { Pool } from "../durable-objects/pool.ts";
export { Tenant } from "../durable-objects/tenant.ts";

const app = new Hono<App>();

app.use(door);

app.route("/", operateApp);
app.route("/admin", adminApp);

app.on(["GET", "HEAD"], "/v1/results/:id", (c) => reply(c, getResult(askingOf(c))));
app.delete("/v1/results/:id", (c) => reply(c, deleteResult(askingOf(c))));
app.all("/v1/results/:id", (c) => only(c, "GET, HEAD, DELETE"));
app.get("/v1/requests/:id", (c) => reply(c, getRequest(c.req.raw, c.env, c.var.trace, base(c), c.req.param("id"))));
app.all("/v1/requests/:id", (c) => only(c, "GET, HEAD"));
app.post("/v1/fingerprint", (c) => reply(c, explainFingerprint(c.req.raw, c.env, c.var.trace)));
app.all("/v1/fingerprint", (c) => only(c, "POST"));

/** Everything else is a service's route, or nothing. */
app.all("*", async (c) => {
  const at = target(c.req.url);
  if (isRefusal(at)) return renderRefusal(at, c.var.trace);
  const service = serviceOf(await catalog(c.env), at.path);
  if (service === null) return renderRefusal(refuse("not_found"), c.var.trace);
  const { trace } = c.var;
  return reply(
    c,
    serve({ request: c.req.raw, env: c.env, ctx: c.executionCtx, trace, service, target: at, base: base(c) }),
  );
});

app.onError((error, c) => {
  // Nothing of what went wrong is for the caller: the log has it under the request's id.
  console.error(JSON.stringify({ event: "crash", request: c.var.trace.id, error: String(error), stack: error.stack }));
  return renderRefusal(refuse("internal", { started: "unknown" }), c.var.trace);
});

async function reply(c: Context<App>, work: Promise<Response | Refusal>): Promise<Response> {
  const outcome = await work;
  return isRefusal(outcome) ? renderRefusal(outcome, c.var.trace) : outcome;
}

function only(c: Context<App>, allow: string): Response {
  return renderRefusal(notAllowed(c.req.method, allow), c.var.trace);
}

/** Our public address: as configured, else the one that the request came to. */
function base(c: Context<App>): string {
  return config(c.env).publicUrl ?? new URL(c.req.url).origin;
}

function askingOf(c: Context<App, "/v1/results/:id">) {
  return {
    request: c.req.raw,
    env: c.env,
    ctx: c.executionCtx,
    trace: c.var.trace,
    base: base(c),
    id: c.req.param("id"),
  };
}

/** As often as `triggers.crons` of wrangler.toml says. */
function scheduled({ scheduledTime }: ScheduledController, env: Env): Promise<void> {
  return sweep(env, scheduledTime);
}

export default Object.assign(app, { scheduled }) satisfies ExportedHandler<Env>;
