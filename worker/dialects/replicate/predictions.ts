/** `/replicate/v1/predictions`: create, get, list, cancel and stream predictions. Each is a job. */
import { z } from "zod";
import type { JobEvent, JobView, JobWebhook } from "../../../durable-objects/job-protocol.ts";
import { type Caller, hasCredential } from "../../auth.ts";
import { BUFFERED_BYTES_MAX, letGo } from "../../body/body.ts";
import { callerWith } from "../../caller/caller.ts";
import { config } from "../../env.ts";
import { canceled, pageOf, findOwnJob } from "../../jobs/api.ts";
import { type Submission, submissionOf, submit, viewOf } from "../../jobs/submit.ts";
import { tellEvents } from "../../jobs/events.ts";
import type { Once } from "../../once.ts";
import { createOnce } from "../../jobs/create-once.ts";
import { waitForJob, waitOf } from "../../jobs/prefer.ts";
import { errorOf } from "../../jobs/view.ts";
import { targetProblem } from "../../jobs/webhook.ts";
import { checkFields, jsonBody } from "../../api/json-body.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { isSigned, signatureRefusal } from "../../results/signature.ts";
import { withTimeout } from "../../../durable-objects/timeout.ts";
import type { CallContext } from "../../call-context.ts";
import { withFiles } from "../own-files.ts";
import { askFor, chosenBy } from "../task.ts";
import { heldBack } from "./holding.ts";
import { at, serviceMeant } from "./models.ts";
import { outputOf, predictionOf, progressLine } from "./prediction.ts";

const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: 64, emptyIsObject: false };
/** Predictions per page of the list. */
const PAGE = 50;
const MOMENTS = ["start", "output", "logs", "completed"] as const;

const named = z.string().min(1).max(200).nullish();

/** Unknown members are ignored: other client versions send some. */
export const PredictionCreate = z
  .object({
    version: named.meta({ description: "A version's id, `portico/<service>` or `portico/<service>:<version>`." }),
    model: named.meta({ description: "`portico/<service>`; used if neither the path nor `version` names a model." }),
    input: z.record(z.string().max(200), z.unknown()).meta({
      description:
        "Fields of the service's mapping and the origin's own fields. Files are given by their URL from `/files`.",
    }),
    webhook: z.string().max(2048).nullish().meta({ description: "`https:`, to a public address." }),
    webhook_events_filter: z
      .array(z.enum(MOMENTS))
      .max(8)
      .nullish()
      .meta({ description: "Default: all. `output` and `logs` are sent together with `completed`." }),
  })
  .meta({ id: "PredictionCreate" });
type PredictionCreate = z.output<typeof PredictionCreate>;

export const PageQuery = z.object({ cursor: z.string().max(200).optional() });

/**
 * `model`: from the path; null: the body names it. Returns 201 with a prediction that has ended or is `starting`:
 * clients take every other status as the end.
 */
export async function createPrediction(context: CallContext, model: string | null): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const json = await jsonBody(context.request, BODY);
  if (isRefusal(json)) return json;
  const make = async (once: Once | null): Promise<string | Refusal> => {
    const checked = checkFields(PredictionCreate, json.value);
    if (isRefusal(checked)) return checked;
    const view = await handIn(context, submissionOf(context, caller, once), model, checked.body);
    return isRefusal(view) ? view : view.spec.id;
  };
  return createOnce(context, caller, json.value, make, (id) => made(context, caller, id));
}

async function handIn(
  context: CallContext,
  submission: Submission,
  model: string | null,
  body: PredictionCreate,
): Promise<JobView | Refusal> {
  const { caller } = submission;
  const meant = model ?? body.version ?? body.model ?? null;
  if (meant === null) return invalid("version", "version_required");
  const service = await serviceMeant(context, caller, meant);
  if (isRefusal(service)) return service;
  const choice = chosenBy(service, body.input);
  if (isRefusal(choice)) return choice;
  const leaked = keyIn(body.input);
  if (leaked !== undefined) return invalid(`input.${leaked}`, "contains_key");
  const webhook = webhookOf(context, body);
  if (isRefusal(webhook)) return webhook;
  const filled = await withFiles(context, caller, choice.task, body.input);
  const ask = isRefusal(filled)
    ? filled
    : await askFor(context, caller, choice, filled.input, true).finally(() => filled.room.free());
  if (isRefusal(ask)) return ask.reason === "invalid_field" ? { ...ask, param: `input.${ask.param}` } : ask;
  const draft = { ask, priority: "normal" as const, startDeadlineAt: null, webhook, asked: body.input };
  try {
    return await heldBack(caller.tenant, context.request.signal, () => submit(submission, draft));
  } finally {
    letGo(ask.body);
  }
}

/**
 * Finds an API key in the input. Clients up to 1.4.0 send their own object, key included, as the input when they encode
 * files.
 */
function keyIn(input: PredictionCreate["input"]): string | undefined {
  return Object.keys(input).find((name) => typeof input[name] === "string" && input[name].startsWith("ptk_live_"));
}

function webhookOf({ env }: CallContext, { webhook: url, webhook_events_filter }: PredictionCreate) {
  if (url === undefined || url === null || url === "") return null;
  const problem = targetProblem(url, config(env).local);
  if (problem !== null) return invalid("webhook", problem);
  const wanted: readonly (typeof MOMENTS)[number][] = webhook_events_filter?.length ? webhook_events_filter : MOMENTS;
  const moments: JobWebhook["moments"] = [];
  if (wanted.includes("start")) moments.push("start");
  if (wanted.some((moment) => moment !== "start")) moments.push("end");
  return { url, secret: null, dialect: "replicate" as const, moments } satisfies JobWebhook;
}

async function made(context: CallContext, caller: Caller, id: string): Promise<Response | Refusal> {
  context.trace.fields["job"] = id;
  const view = await viewOf(context.env, caller.tenant, id);
  if (isRefusal(view)) return view;
  const waitS = waitOf(context.request.headers) ?? 0;
  if (waitS > 0) context.trace.headers.set("preference-applied", `wait=${waitS}`);
  const last = await waitForJob(context, caller, view, waitS * 1000);
  if (isRefusal(last)) return last;
  const body = await predictionOf(context, last, last.state.finishedAt === null ? "starting" : null);
  return Response.json(body, { status: 201, headers: { location: body.urls.get } });
}

export async function getPrediction(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const view = await findOwnJob(context, caller, id);
  return isRefusal(view) ? view : Response.json(await predictionOf(context, view));
}

export async function listPredictions(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const query = checkFields(PageQuery, Object.fromEntries(new URL(context.request.url).searchParams));
  if (isRefusal(query)) return query;
  const page = await pageOf(context, caller, { ...query.body, limit: PAGE });
  if (isRefusal(page)) return page;
  const results = await Promise.all(page.views.map((view) => predictionOf(context, view)));
  const next = page.next === null ? null : at(context.base, `predictions?cursor=${encodeURIComponent(page.next)}`);
  return Response.json({ results, next, previous: null });
}

/** A prediction that has ended is returned unchanged: the client cancels every prediction that its caller gives up. */
export async function cancelPrediction(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const stopped = await canceled(context, caller, id);
  const isOver = isRefusal(stopped) && stopped.reason === "job_finished";
  const view = isOver ? await findOwnJob(context, caller, id) : stopped;
  return isRefusal(view) ? view : Response.json(await predictionOf(context, view));
}

/** Accepts the signature of `urls.stream` without a key, because the client sends none there, or a key. */
export async function streamPrediction(context: CallContext, id: string): Promise<Response | Refusal> {
  const tenant = await readerOf(context, id);
  if (isRefusal(tenant)) return tenant;
  return tellEvents(context, tenant, id, (event) => told(context, tenant, id, event));
}

async function readerOf(context: CallContext, id: string): Promise<string | Refusal> {
  const { request, env } = context;
  if (hasCredential(request)) {
    const caller = await callerWith("jobs", context);
    if (isRefusal(caller)) return caller;
    const view = await findOwnJob(context, caller, id);
    return isRefusal(view) ? view : caller.tenant;
  }
  const query = new URL(request.url).searchParams;
  if (!isSigned(query)) return refuse("missing");
  const refused = await signatureRefusal(config(env), id, query, Date.now(), "stream-url");
  return refused ?? (await withTimeout(env.JOB.getByName(id).owner())) ?? refuse("not_found");
}

/**
 * Formats an event: `logs` while the job runs; at its end `output` or `error`, then `done`, which ends the client's
 * stream.
 */
async function told(context: CallContext, tenant: string, id: string, event: JobEvent): Promise<string> {
  if (event.type === "progress") return sse("logs", progressLine(event.progress ?? 0), event.id);
  if (event.type !== "done") return "";
  const view = await viewOf(context.env, tenant, id);
  if (isRefusal(view)) return sse("done", JSON.stringify({ reason: "error" }), event.id);
  const { status } = view.state;
  if (status === "canceled") return sse("done", JSON.stringify({ reason: "canceled" }), event.id);
  if (status === "failed") {
    const detail = String(errorOf(view.state, context.trace)?.["message"]);
    return sse("error", JSON.stringify({ detail })) + sse("done", JSON.stringify({ reason: "error" }), event.id);
  }
  const outputs = [await outputOf(context, view)].flat().filter((each) => each !== null);
  const texts = outputs.map((each) => (typeof each === "string" ? each : JSON.stringify(each)));
  return texts.map((text) => sse("output", text)).join("") + sse("done", "{}", event.id);
}

/**
 * Of several events for one change only the last has the id: a client that reconnects before it gets all of them again.
 */
function sse(event: string, data: string, id: number | null = null): string {
  const lines = data.split(/\r\n|[\r\n]/).map((line) => `data: ${line}\n`);
  return `${id === null ? "" : `id: ${id}\n`}event: ${event}\n${lines.join("")}\n`;
}
