/** `/fal/queue`: runs model calls as jobs. Submit, status, status stream, result and cancel. */
import { z } from "zod";
import { isOver, type JobView as View, type JobWebhook } from "../../../durable-objects/job-protocol.ts";
import type { CallContext } from "../../call-context.ts";
import type { Caller } from "../../auth.ts";
import { letGo } from "../../body/body.ts";
import { lookUp } from "../../cache.ts";
import { answerKey } from "../../results/stored-answer.ts";
import { callerWith } from "../../caller/caller.ts";
import { config } from "../../env.ts";
import { checkFields, jsonBody } from "../../api/json-body.ts";
import { whileAllowed } from "../../jobs/allowed.ts";
import { cancelJob, findOwnJob } from "../../jobs/api.ts";
import { tellEvents } from "../../jobs/events.ts";
import { submissionOf, submit, viewOf } from "../../jobs/submit.ts";
import type { Once } from "../../once.ts";
import { createOnce } from "../../jobs/create-once.ts";
import { keptAs } from "../../jobs/run-once.ts";
import { targetProblem } from "../../jobs/webhook.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { withTimeout } from "../../../durable-objects/timeout.ts";
import { askedOf, BODY, idOf, Input, optionsIn, serviceNamed } from "./request.ts";
import { outputOf } from "./output.ts";
import type { App } from "./paths.ts";
import { failed, failureOf } from "./refusals.ts";

/** Longest time that a status call is held until something changes. */
const HOLD_MS_MAX = 20_000;
/** A state that began less than this long ago is returned at once, so that clients see every state. */
const NEWS_MS = 400;
const WEBHOOK_LENGTH_MAX = 2048;

const Urls = z.object({ response_url: z.string(), status_url: z.string(), cancel_url: z.string() });
const Log = z.object({ message: z.string(), level: z.string(), source: z.string(), timestamp: z.string() });

export const StatusView = Urls.extend({
  status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]),
  request_id: z.string(),
  queue_position: z.int().optional().meta({ description: "Requests ahead of this one; 0: it is the next." }),
  logs: z.array(Log).nullable().optional(),
  metrics: z
    .object({ inference_time: z.number() })
    .optional()
    .meta({ description: "`inference_time`: seconds on a card." }),
  error: z
    .string()
    .optional()
    .meta({ description: "The request failed or was canceled; `response_url` returns the error." }),
  error_type: z.string().optional(),
}).meta({ id: "FalStatus" });
export type StatusView = z.infer<typeof StatusView>;

export async function submitRequest(context: CallContext, app: App): Promise<Response | Refusal> {
  const { request, env } = context;
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const service = await serviceNamed(context, caller, app);
  if (isRefusal(service)) return service;
  const json = await jsonBody(request, BODY);
  if (isRefusal(json)) return json;
  const make = async (once: Once | null): Promise<string | Refusal> => {
    const said = optionsIn(request);
    if (isRefusal(said)) return said;
    const webhook = webhookIn(context);
    if (isRefusal(webhook)) return webhook;
    const input = checkFields(Input, json.value);
    if (isRefusal(input)) return input;
    const ask = await askedOf(context, caller, service, { path: app.path, input: input.body, later: true });
    if (isRefusal(ask)) return ask;
    try {
      const startDeadlineAt = said.startS === null ? null : Math.ceil(Date.now() + said.startS * 1000);
      const retries = said.retries ? {} : { retries: false as const };
      const draft = { ask, priority: said.priority, startDeadlineAt, webhook, ...retries };
      const view = await submit(submissionOf(context, caller, once), draft);
      return isRefusal(view) ? view : view.spec.id;
    } finally {
      letGo(ask.body);
    }
  };
  const show = async (id: string): Promise<Response | Refusal> => {
    const view = await viewOf(env, caller.tenant, id);
    if (isRefusal(view)) return view;
    context.trace.headers.set("x-fal-request-id", id);
    const { queue_position = 0, response_url, status_url, cancel_url } = statusOf(context, view, false);
    return Response.json({ status: "IN_QUEUE", request_id: id, queue_position, response_url, status_url, cancel_url });
  };
  return createOnce(context, caller, { input: json.value, webhook: webhookGiven(context) }, make, show);
}

function webhookGiven({ request }: CallContext): string | null {
  return new URL(request.url).searchParams.get("fal_webhook");
}

function webhookIn(context: CallContext): JobWebhook | null | Refusal {
  const url = webhookGiven(context);
  if (url === null) return null;
  if (url.length > WEBHOOK_LENGTH_MAX) return invalid("fal_webhook", "characters_at_most", { max: WEBHOOK_LENGTH_MAX });
  const problem = targetProblem(url, config(context.env).local);
  return problem === null ? { url, secret: null, dialect: "fal" } : invalid("fal_webhook", problem);
}

/** Returns the caller and the request, if it belongs to the caller's tenant and to this app. */
async function requestOf(context: CallContext, { owner, name }: App, id: string): Promise<[Caller, View] | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const view = await findOwnJob(context, caller, id);
  if (isRefusal(view)) return view;
  if (`${owner}/${name}` !== idOf({ id: view.spec.service })) return refuse("not_found");
  context.trace.headers.set("x-fal-request-id", id);
  return [caller, view];
}

/** Held until something changes: a client that polls at a fixed interval then makes about one call per change. */
export async function getStatus(context: CallContext, app: App, id: string): Promise<Response | Refusal> {
  const found = await requestOf(context, app, id);
  if (isRefusal(found)) return found;
  const [caller, view] = found;
  const later = isNews(view, Date.now()) ? view : await next(context, caller, view);
  if (isRefusal(later)) return later;
  const status = statusOf(context, later, wantsLogs(context));
  return Response.json(status, { status: status.status === "COMPLETED" ? 200 : 202 });
}

function isNews({ spec, state }: View, now: number): boolean {
  if (isOver(state.status)) return true;
  const since = state.status === "running" ? state.attempts.at(-1)?.startedAt : spec.createdAt;
  return now - (since ?? 0) < NEWS_MS;
}

/** Returns the request after its next event, or after HOLD_MS_MAX. */
async function next(context: CallContext, { tenant }: Caller, { spec, state }: View): Promise<View | Refusal> {
  const asked = context.env.JOB.getByName(spec.id).events(state.seq, HOLD_MS_MAX);
  const events = await whileAllowed(context, withTimeout(asked, 2 * HOLD_MS_MAX));
  return isRefusal(events) ? events : viewOf(context.env, tenant, spec.id);
}

function wantsLogs({ request }: CallContext): boolean {
  return /^(1|true)$/.test(new URL(request.url).searchParams.get("logs") ?? "");
}

/**
 * Clients stop polling only at COMPLETED, so failed and canceled requests report it too; the result URL returns the
 * error.
 */
function statusOf({ base, trace }: CallContext, { spec, state, waiting }: View, withLogs: boolean): StatusView {
  const url = `${base}/fal/queue/${idOf({ id: spec.service })}/requests/${spec.id}`;
  const urls = { response_url: url, status_url: `${url}/status`, cancel_url: `${url}/cancel` };
  const same = { request_id: spec.id, ...urls };
  const logs = withLogs ? logsOf(state) : null;
  if (state.status === "queued")
    return { status: "IN_QUEUE", ...same, queue_position: Math.max(0, (waiting?.position ?? 1) - 1), logs };
  if (state.status === "running") return { status: "IN_PROGRESS", ...same, logs };
  const failure = failureOf(state, trace.language);
  const error = failure === null ? {} : { error: failure.message, error_type: failure.type };
  return { status: "COMPLETED", ...same, logs, metrics: { inference_time: state.gpuMs / 1000 }, ...error };
}

function line(message: string, at: number | null): z.infer<typeof Log> {
  return { message, level: "INFO", source: "portico", timestamp: new Date(at ?? Date.now()).toISOString() };
}

/** One line per attempt, and the progress of the current one. */
function logsOf({ attempts, progress, status }: View["state"]): z.infer<typeof Log>[] {
  const tries = attempts.map(({ number, card, startedAt }) => line(`try ${number} on ${card ?? "a card"}`, startedAt));
  return progress === null || status !== "running" ? tries : [...tries, line(`${Math.round(progress * 100)}%`, null)];
}

/** Streams the request's states as server-sent events; the last one is COMPLETED. */
export async function streamStatus(context: CallContext, app: App, id: string): Promise<Response | Refusal> {
  const found = await requestOf(context, app, id);
  if (isRefusal(found)) return found;
  const [{ tenant }] = found;
  let told = "";
  return tellEvents(context, tenant, id, async () => {
    const view = await viewOf(context.env, tenant, id);
    const status = isRefusal(view) ? told : JSON.stringify(statusOf(context, view, wantsLogs(context)));
    if (status === told) return "";
    told = status;
    return `data: ${status}\n\n`;
  });
}

/** Returns the request's output or its error. */
export async function getOutput(context: CallContext, app: App, id: string): Promise<Response | Refusal> {
  const found = await requestOf(context, app, id);
  if (isRefusal(found)) return found;
  const [caller, view] = found;
  const { state } = view;
  if (!isOver(state.status)) return failed(UNFINISHED, context.trace);
  const failure = failureOf(state, context.trace.language);
  if (failure !== null) return failed(failure, context.trace);
  if (state.results.length > 0 || state.output !== null) return Response.json(await outputOf(context, view));
  // An answer that is neither JSON nor a file is returned as the origin sent it.
  const own = await lookUp(context, answerKey(caller.tenant, await keptAs(id)), Date.now(), true);
  if (own === null || own === "expired") return Response.json({});
  const type = own.headers.get("content-type") ?? "application/octet-stream";
  return new Response(own.body, { headers: { "content-type": type } });
}

const STILL = "Request is still in progress";
const UNFINISHED = { status: 400, type: "bad_request", message: STILL, detail: STILL, headers: {} };

/** Cancels the request. The outcome is reported in fal's terms. */
export async function cancelRequest(context: CallContext, app: App, id: string): Promise<Response | Refusal> {
  const found = await requestOf(context, app, id);
  const outcome = isRefusal(found) ? found : await cancelJob(context, id);
  if (!isRefusal(outcome)) return Response.json({ status: "CANCELLATION_REQUESTED" }, { status: 202 });
  const status = outcome.reason === "job_finished" ? "ALREADY_COMPLETED" : "NOT_FOUND";
  if (outcome.reason !== "job_finished" && outcome.reason !== "not_found") return outcome;
  const code = status === "ALREADY_COMPLETED" ? 400 : 404;
  return Response.json({ status, detail: status, message: status }, { status: code });
}
