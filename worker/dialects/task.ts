/** Finds the service and task that a dialect's call means, and builds the Ask from the call's fields. */
import { type Ask, parseAsk } from "../ask.ts";
import { type Caller, mayCall } from "../auth.ts";
import { catalog, listed } from "../services/catalog.ts";
import type { ServiceRow } from "../db/queries.ts";
import { DIALECTS_BY_KIND, ownTask } from "../services/kinds.ts";
import { type Given, isFile, isGiven, mapped, nameGiven, type Task, type TaskName } from "./mapping.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../refusal.ts";
import type { CallContext } from "../call-context.ts";

/** The owner under which clients name services as models: `portico/<service>`. */
export const OWNER = "portico";

/** Caller headers that the Worker's own stages obey. The origin gets none of them. */
const OBEYED = ["cache-control", "x-timeout-s", "x-stainless-timeout", "x-result-ttl", "x-result-visibility"];

export interface Chosen {
  service: ServiceRow;
  task: Task;
}

/**
 * Returns how a service performs a task: its own definition, or its kind's default if the service lists that path. Null
 * if it does not do the task.
 */
export function taskOf({ route, config }: ServiceRow, name: TaskName): Task | null {
  const own = ownTask(config, name);
  if (own !== undefined) return own;
  const task = DIALECTS_BY_KIND[config.kind][name] ?? null;
  if (task === null) return null;
  const entry = listed({ route, config }, "POST", route + task.path);
  return isRefusal(entry) || entry.as !== "run" ? null : task;
}

/** The services that a key may use, oldest first. */
export async function servicesFor({ env }: Pick<CallContext, "env">, caller: Caller): Promise<ServiceRow[]> {
  const services = await catalog(env);
  return services
    .filter(({ id }) => mayCall(caller, id) === null)
    .toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}

/** Returns the service that `model` names; with no model, the oldest service that does the task. */
export async function chosen(
  context: Pick<CallContext, "env">,
  caller: Caller,
  name: TaskName,
  model: string | null,
): Promise<Chosen | Refusal> {
  if (model === null) {
    for (const service of await servicesFor(context, caller)) {
      const task = taskOf(service, name);
      if (task !== null) return { service, task };
    }
    return invalid("model", "no_model");
  }
  const service = await modelNamed(context, caller, model);
  if (isRefusal(service)) return service;
  const task = taskOf(service, name);
  return task === null ? invalid("model", "not_supported", { service: service.id }) : { service, task };
}

export async function modelNamed(
  { env }: Pick<CallContext, "env">,
  caller: Caller,
  model: string,
): Promise<ServiceRow | Refusal> {
  const service = (await catalog(env)).find(({ id }) => id === model);
  if (service === undefined) return refuse("not_found", { param: "model", facts: { model: model.slice(0, 100) } });
  return mayCall(caller, service.id) ?? service;
}

/** Chooses the task for an `input`: `edit` if it has an image in a field that only `edit` takes, else `run`. */
export function chosenBy(service: ServiceRow, input: Given): Chosen | Refusal {
  const [run, edit] = [taskOf(service, "run"), taskOf(service, "edit")];
  const known = new Set(run?.fields.map(({ from }) => from));
  const pictures = (edit?.fields ?? []).filter(({ from, as }) => isPicture(as) && !known.has(from));
  const isEdit = pictures.some(({ from, to }) => isGiven(input[from]) || isGiven(input[to]));
  const task = isEdit ? edit : run;
  return task === null ? invalid("model", "not_supported", { service: service.id }) : { service, task };
}

const isPicture = (as: string | undefined): boolean => as === "base64" || as === "data_url";

/**
 * Builds the origin's request and validates it like a caller's own. An invalid field is reported under the dialect's
 * name. `later`: the Ask outlives this request, as a job.
 */
export async function askFor(
  { request, env, ctx }: CallContext,
  caller: Caller,
  { service, task }: Chosen,
  given: Given,
  later = false,
): Promise<Ask | Refusal> {
  const outcome = mapped(task, given);
  if ("detail" in outcome) return refuse("invalid_field", { param: outcome.param, facts: outcome.detail });
  const headers = new Headers();
  for (const name of OBEYED) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  const json = task.body === "json";
  if (json) headers.set("content-type", "application/json");
  const path = service.route + task.path;
  const native = new Request(new URL(path, request.url), {
    method: "POST",
    headers,
    body: json ? JSON.stringify(outcome.fields) : formOf(outcome.fields),
    signal: request.signal,
  });
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const asked = { tenant: caller.tenant, service, as: "run" as const, path, query: "", later };
  const ask = await parseAsk(native, asked, place, Date.now());
  if (!isRefusal(ask)) return { ...ask, resultsAt: task.results };
  return ask.param === null ? ask : { ...ask, param: nameGiven(task, ask.param, given) };
}

function formOf(fields: Given): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const each of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (isFile(each)) form.append(name, new File([each.bytes], name, { type: each.type }));
      else form.append(name, typeof each === "string" ? each : JSON.stringify(each));
    }
  }
  return form;
}
