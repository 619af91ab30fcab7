/**
 * The Replicate dialect, mounted at `/replicate/v1`. A model is a service, a prediction is a job. The dialect only
 * parses and renders; its errors have Replicate's format.
 */
import { type Context, Hono } from "hono";
import { getSecret } from "../jobs/webhooks-api.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "../refusal.ts";
import type { CallContext } from "../call-context.ts";
import type { App } from "../trace.ts";
import { createFile, deleteFile, getFile } from "./replicate/files.ts";
import { getAccount, getModel, getVersion, listModels, listVersions } from "./replicate/models.ts";
import {
  cancelPrediction,
  createPrediction,
  getPrediction,
  listPredictions,
  streamPrediction,
} from "./replicate/predictions.ts";
import { renderProblem } from "./replicate/refusal.ts";

type Params = Record<"owner" | "name" | "id", string>;
type Call = (context: CallContext, params: Params) => Promise<Response | Refusal>;

const create: Call = (context, { owner, name }) => createPrediction(context, `${owner}/${name}`);

/** Handlers by path and method. */
const CALLS: Record<string, Partial<Record<"GET" | "POST" | "DELETE", Call>>> = {
  "/predictions": { GET: listPredictions, POST: (context) => createPrediction(context, null) },
  "/predictions/:id": { GET: (context, { id }) => getPrediction(context, id) },
  "/predictions/:id/cancel": { POST: (context, { id }) => cancelPrediction(context, id) },
  "/predictions/:id/stream": { GET: (context, { id }) => streamPrediction(context, id) },
  "/models": { GET: listModels },
  "/models/:owner/:name": { GET: (context, { owner, name }) => getModel(context, owner, name) },
  "/models/:owner/:name/predictions": { POST: create },
  "/models/:owner/:name/versions": { GET: (context, { owner, name }) => listVersions(context, owner, name) },
  "/models/:owner/:name/versions/:id": { GET: (context, { owner, name, id }) => getVersion(context, owner, name, id) },
  "/deployments/:owner/:name/predictions": { POST: create },
  "/files": { POST: createFile },
  "/files/:id": {
    GET: (context, { id }) => getFile(context, id),
    DELETE: (context, { id }) => deleteFile(context, id),
  },
  "/account": { GET: getAccount },
  "/webhooks/default/secret": { GET: getSecret },
};

/** `contextOf` builds the context of a call. */
export function replicateApp(contextOf: (c: Context<App>) => CallContext): Hono<App> {
  const app = new Hono<App>();
  for (const [path, calls] of Object.entries(CALLS)) {
    for (const [method, call] of Object.entries(calls))
      app.on(method, path, async (c) => {
        const outcome = await call(contextOf(c), { owner: "", name: "", id: "", ...c.req.param() });
        return isRefusal(outcome) ? renderProblem(outcome, c.var.trace) : outcome;
      });
    const allow = Object.keys(calls).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
    app.all(path, (c) => renderProblem(notAllowed(c.req.method, allow.join(", ")), c.var.trace));
  }
  app.all("*", (c) => renderProblem(refuse("not_found"), c.var.trace));
  app.onError((error, c) => {
    console.error(
      JSON.stringify({ event: "crash", request: c.var.trace.id, error: String(error), stack: error.stack }),
    );
    return renderProblem(refuse("internal", { started: "unknown" }), c.var.trace);
  });
  return app;
}
