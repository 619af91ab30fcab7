/**
 * The Replicate dialect, mounted at `/replicate/v1`. A model is a service, a prediction is a job. The dialect only
 * parses and renders; its errors have Replicate's format.
 */
import { type Context, Hono } from "hono";
import { getSecret } from "../jobs/webhooks-api.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "../refusal.ts";
import type { Mouth } from "../mouth.ts";
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
type Call = (mouth: Mouth, params: Params) => Promise<Response | Refusal>;

const create: Call = (mouth, { owner, name }) => createPrediction(mouth, `${owner}/${name}`);

/** Handlers by path and method. */
const CALLS: Record<string, Partial<Record<"GET" | "POST" | "DELETE", Call>>> = {
  "/predictions": { GET: listPredictions, POST: (mouth) => createPrediction(mouth, null) },
  "/predictions/:id": { GET: (mouth, { id }) => getPrediction(mouth, id) },
  "/predictions/:id/cancel": { POST: (mouth, { id }) => cancelPrediction(mouth, id) },
  "/predictions/:id/stream": { GET: (mouth, { id }) => streamPrediction(mouth, id) },
  "/models": { GET: listModels },
  "/models/:owner/:name": { GET: (mouth, { owner, name }) => getModel(mouth, owner, name) },
  "/models/:owner/:name/predictions": { POST: create },
  "/models/:owner/:name/versions": { GET: (mouth, { owner, name }) => listVersions(mouth, owner, name) },
  "/models/:owner/:name/versions/:id": { GET: (mouth, { owner, name, id }) => getVersion(mouth, owner, name, id) },
  "/deployments/:owner/:name/predictions": { POST: create },
  "/files": { POST: createFile },
  "/files/:id": { GET: (mouth, { id }) => getFile(mouth, id), DELETE: (mouth, { id }) => deleteFile(mouth, id) },
  "/account": { GET: getAccount },
  "/webhooks/default/secret": { GET: getSecret },
};

/** `mouthOf` builds the context of a call. */
export function replicateApp(mouthOf: (c: Context<App>) => Mouth): Hono<App> {
  const app = new Hono<App>();
  for (const [path, calls] of Object.entries(CALLS)) {
    for (const [method, call] of Object.entries(calls))
      app.on(method, path, async (c) => {
        const outcome = await call(mouthOf(c), { owner: "", name: "", id: "", ...c.req.param() });
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
