/** Finds the service and task that a model call means by its id and input, and builds the origin's request. */
import { z } from "zod";
import type { CallContext } from "../../call-context.ts";
import type { Ask } from "../../ask.ts";
import { type Caller, mayCall } from "../../auth.ts";
import { BUFFERED_BYTES_MAX } from "../../body/body.ts";
import { catalog, listed } from "../../services/catalog.ts";
import type { ServiceRow } from "../../db/queries.ts";
import { checkedBody } from "../../api/json-body.ts";
import type { Given, Task, TaskName } from "../mapping.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { withFiles } from "../own-files.ts";
import { askFor, type Chosen, OWNER, taskOf } from "../task.ts";
import type { App } from "./paths.ts";
import { bringsImage, givenTo, nameIn } from "./words.ts";

export const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: 64, emptyIsObject: true };
const START_S_MAX = 604_800;
const KEPT_S_MAX = 10 * 365 * 86_400;
/** The order in which tasks are searched for one that has the called path. */
const TASKS: TaskName[] = ["run", "generate", "edit", "speech"];

export const Input = z.record(z.string(), z.unknown()).meta({
  id: "FalInput",
  description: "The origin's own fields, or fal's common ones (`image_size`, `num_images`, ...).",
});

export function idOf({ id }: Pick<ServiceRow, "id">): string {
  return `${OWNER}/${id}`;
}

interface AskedFor {
  /** Below the service's route; empty: the service's default task. */
  path: string;
  input: Given;
  /** The caller wants the answer streamed. */
  streamed?: boolean;
  /** The origin's request has to outlive the call, as a job. */
  later?: boolean;
}

export async function inputOf({ request }: CallContext): Promise<Given | Refusal> {
  const checked = await checkedBody(request, Input, BODY);
  return isRefusal(checked) ? checked : checked.body;
}

/** Returns the service that an app id names, if the key may call it. */
export async function serviceNamed(
  { env }: CallContext,
  caller: Caller,
  { owner, name }: App,
): Promise<ServiceRow | Refusal> {
  const service = owner === OWNER ? (await catalog(env)).find(({ id }) => id === name) : undefined;
  if (service === undefined) return refuse("not_found", { facts: { app: `${owner}/${name}`.slice(0, 200) } });
  return mayCall(caller, service.id) ?? service;
}

/** Builds the origin's request. An invalid field is reported under the caller's name for it. */
export async function askedOf(
  context: CallContext,
  caller: Caller,
  service: ServiceRow,
  { path, input, streamed = false, later = false }: AskedFor,
): Promise<Ask | Refusal> {
  const task = taskAt(service, path, input, streamed);
  if (isRefusal(task)) return task;
  const filled = await withFiles(context, caller, task, givenTo(task, input));
  if (isRefusal(filled)) return filled;
  const choice: Chosen = { service, task };
  const ask = await askFor(context, caller, choice, filled.input, later).finally(() => filled.room.free());
  return isRefusal(ask) && ask.param !== null ? { ...ask, param: nameIn(input, ask.param) } : ask;
}

export function isListed(service: ServiceRow, path: string): boolean {
  const entry = listed(service, "POST", service.route + path);
  return !isRefusal(entry) && entry.as === "run";
}

function taskAt(service: ServiceRow, path: string, input: Given, streamed: boolean): Task | Refusal {
  if (path === "") return taskByDefault(service, input, streamed) ?? invalid("path", "path_required");
  if (!isListed(service, path))
    return refuse("not_found", { facts: { app: `${idOf(service)}/${path}`.slice(0, 200) } });
  const known = TASKS.map((name) => taskOf(service, name)).find((task) => task?.path === path);
  return known ?? plain(service, path);
}

function taskByDefault(service: ServiceRow, input: Given, streamed: boolean): Task | null {
  const special = bringsImage(input) ? taskOf(service, "edit") : streamed ? taskOf(service, "speech") : null;
  const task = special ?? taskOf(service, "run");
  const own = service.config.paths.find(
    ({ as, path, method }) => as === "run" && !path.includes("*") && method !== "GET",
  );
  return task ?? (own === undefined ? null : plain(service, own.path));
}

/** A task that passes the input to the origin's own API unchanged. */
function plain({ config }: ServiceRow, path: string): Task {
  const results = config.kind === "image" ? "/images" : null;
  return { path, body: "json", fields: [], fixed: {}, results, formats: ["png"] };
}

// --------------------------------------------------------------------------------------------------------- headers

const lifecycle = z.looseObject({ expiration_duration_seconds: z.int().min(1).max(KEPT_S_MAX).optional() });

/** Settings that clients send in headers. */
export interface RequestOptions {
  priority: "high" | "normal" | "low";
  /** The request fails if it has not started within this many seconds. */
  startS: number | null;
  retries: boolean;
}

export function optionsIn({ headers }: Request): RequestOptions | Refusal {
  const priority = headers.get("x-fal-queue-priority") ?? "normal";
  if (priority !== "high" && priority !== "normal" && priority !== "low")
    return invalid("x-fal-queue-priority", "one_of", { values: "high, normal, low" });
  const text = headers.get("x-fal-request-timeout");
  const startS = text === null ? null : /^\d{1,6}(\.\d{1,6})?$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (startS !== null && !(startS >= 1 && startS <= START_S_MAX))
    return invalid("x-fal-request-timeout", "seconds", { max: START_S_MAX });
  const kept = headers.get("x-fal-object-lifecycle-preference");
  if (kept !== null && !isLifecycle(kept))
    return invalid("x-fal-object-lifecycle-preference", "fal_lifecycle", { max: KEPT_S_MAX });
  return { priority, startS, retries: !/^(1|true)$/i.test(headers.get("x-fal-no-retry") ?? "") };
}

function isLifecycle(text: string): boolean {
  try {
    return lifecycle.safeParse(JSON.parse(text)).success;
  } catch {
    return false;
  }
}
