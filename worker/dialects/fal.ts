/**
 * The fal dialect below `/fal`: routes calls, direct or through `/fal/proxy`. It only parses and renders; runs are
 * those of every other route, and queue requests are jobs.
 */
import type { Mouth } from "../mouth.ts";
import { authenticate } from "../auth.ts";
import { target } from "../services/catalog.ts";
import { type Refusal, isRefusal, notAllowed, refuse } from "../refusal.ts";
import { fileCall, initiate, noMultipart } from "./fal/files.ts";
import { getJwks } from "./fal/letter.ts";
import { type Call, callAt, METHODS, ownPath, TARGET_HEADER } from "./fal/place.ts";
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

export async function fal(mouth: Mouth): Promise<Response> {
  const { trace } = mouth;
  trace.headers.set("x-fal-request-id", trace.id);
  const outcome = await called(mouth);
  return isRefusal(outcome) ? falRefusal(outcome, trace) : outcome;
}

async function called(mouth: Mouth): Promise<Response | Refusal> {
  const call = callOf(mouth.request);
  if (isRefusal(call)) return call;
  return call.kind === "proxy" ? proxy(mouth) : answer(mouth, call);
}

function callOf({ method, url }: Pick<Request, "method" | "url">): Call | Refusal {
  const at = target(url);
  if (isRefusal(at)) return at;
  const call = callAt(at.path);
  if (call === null) return refuse("not_found");
  const methods = METHODS[call.kind];
  return methods.includes(method) ? call : notAllowed(method, methods.join(", "));
}

/** Handles the call that the client's target header names, within this Worker; nothing is fetched. */
async function proxy(mouth: Mouth): Promise<Response | Refusal> {
  const { method, headers: sent, body, signal, url } = mouth.request;
  // Checked first: a caller without a key does not learn which targets exist.
  const caller = await authenticate(mouth.request, mouth.env);
  if (isRefusal(caller)) return caller;
  const path = ownPath(sent.get(TARGET_HEADER));
  if (isRefusal(path)) return path;
  const headers = new Headers(sent);
  headers.delete(TARGET_HEADER);
  const bound = new URL(url).origin + path;
  // The path is checked before it becomes a URL: parsing would normalize dots and backslashes.
  const call = callOf({ method, url: bound });
  if (isRefusal(call)) return call;
  if (call.kind === "proxy") return refuse("not_found");
  return answer({ ...mouth, request: new Request(bound, { method, headers, body, signal }) }, call);
}

function answer(mouth: Mouth, call: Exclude<Call, { kind: "proxy" }>): Promise<Response | Refusal> | Refusal {
  switch (call.kind) {
    case "run":
      return run(mouth, call.app);
    case "submit":
      return submitRequest(mouth, call.app);
    case "status":
      return getStatus(mouth, call.app, call.id);
    case "stream":
      return streamStatus(mouth, call.app, call.id);
    case "result":
      return getOutput(mouth, call.app, call.id);
    case "cancel":
      return cancelRequest(mouth, call.app, call.id);
    case "initiate":
      return initiate(mouth);
    case "multipart":
      return noMultipart();
    case "file":
      return fileCall(mouth, call.id);
    case "jwks":
      return getJwks(mouth);
  }
}
