/**
 * The fal dialect below `/fal`: routes calls, direct or through `/fal/proxy`. It only parses and renders; runs are
 * those of every other route, and queue requests are jobs.
 */
import type { CallContext } from "../call-context.ts";
import { authenticate } from "../auth.ts";
import { target } from "../services/catalog.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "../refusal.ts";
import { fileCall, initiate, noMultipart } from "./fal/files.ts";
import { getJwks } from "./fal/webhook-message.ts";
import { type Call, parseCall, METHODS, pathOfTarget, TARGET_HEADER } from "./fal/paths.ts";
import { cancelRequest, getOutput, getStatus, streamStatus, submitRequest } from "./fal/queue.ts";
import { falRefusal } from "./fal/refusals.ts";
import { run } from "./fal/run.ts";

const QUEUE = "/fal/queue/:owner/:app";

/** Method and path of every call. App ids and their paths may have more segments. */
export const FAL_ROUTES: [method: string, path: string][] = [
  ["POST", "/fal/run/:owner/:app"],
  ["POST", "/fal/run/:owner/:app/stream"],
  ["POST", QUEUE],
  ["GET", `${QUEUE}/requests/:id`],
  ["GET", `${QUEUE}/requests/:id/status`],
  ["GET", `${QUEUE}/requests/:id/status/stream`],
  ["PUT", `${QUEUE}/requests/:id/cancel`],
  ["POST", "/fal/rest/storage/upload/initiate"],
  ["PUT", "/fal/files/:id"],
  ["GET", "/fal/files/:id"],
  ["GET", "/fal/proxy"],
  ["POST", "/fal/proxy"],
  ["PUT", "/fal/proxy"],
  ["GET", "/fal/.well-known/jwks.json"],
];

export async function fal(context: CallContext): Promise<Response> {
  const { trace } = context;
  trace.headers.set("x-fal-request-id", trace.id);
  const outcome = await called(context);
  return isRefusal(outcome) ? falRefusal(outcome, trace) : outcome;
}

async function called(context: CallContext): Promise<Response | Refusal> {
  const call = callOf(context.request);
  if (isRefusal(call)) return call;
  return call.kind === "proxy" ? proxy(context) : answer(context, call);
}

function callOf({ method, url }: Pick<Request, "method" | "url">): Call | Refusal {
  const at = target(url);
  if (isRefusal(at)) return at;
  const call = parseCall(at.path);
  if (call === null) return refuse("not_found");
  const methods = METHODS[call.kind];
  return methods.includes(method) ? call : notAllowed(method, methods.join(", "));
}

/** Handles the call that the client's target header names, within this Worker; nothing is fetched. */
async function proxy(context: CallContext): Promise<Response | Refusal> {
  const { method, headers: sent, body, signal, url } = context.request;
  // Checked first: a caller without a key does not learn which targets exist.
  const caller = await authenticate(context.request, context.env);
  if (isRefusal(caller)) return caller;
  const path = pathOfTarget(sent.get(TARGET_HEADER));
  if (isRefusal(path)) return path;
  const headers = new Headers(sent);
  headers.delete(TARGET_HEADER);
  const bound = new URL(url).origin + path;
  // The path is checked before it becomes a URL: parsing would normalize dots and backslashes.
  const call = callOf({ method, url: bound });
  if (isRefusal(call)) return call;
  if (call.kind === "proxy") return refuse("not_found");
  return answer({ ...context, request: new Request(bound, { method, headers, body, signal }) }, call);
}

function answer(context: CallContext, call: Exclude<Call, { kind: "proxy" }>): Promise<Response | Refusal> | Refusal {
  switch (call.kind) {
    case "run":
      return run(context, call.app);
    case "submit":
      return submitRequest(context, call.app);
    case "status":
      return getStatus(context, call.app, call.id);
    case "stream":
      return streamStatus(context, call.app, call.id);
    case "result":
      return getOutput(context, call.app, call.id);
    case "cancel":
      return cancelRequest(context, call.app, call.id);
    case "initiate":
      return initiate(context);
    case "multipart":
      return noMultipart();
    case "file":
      return fileCall(context, call.id);
    case "jwks":
      return getJwks(context);
  }
}
