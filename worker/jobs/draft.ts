/** Builds a job's draft from a request body and validates it like the same request on the service's own route. */
import { z } from "zod";
import { type Ask, parseAsk } from "../ask.ts";
import { type Caller, mayCall } from "../auth.ts";
import { catalog, listed, target } from "../services/catalog.ts";
import type { ServiceRow } from "../db/queries.ts";
import { isExact } from "../fingerprint.ts";
import { wrong } from "../details.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../refusal.ts";
import { Id } from "../api/schema-parts.ts";
import type { CallContext } from "../call-context.ts";
import type { LargeInput } from "./job-body.ts";
import type { Draft } from "./submit.ts";
import { Webhook, webhookOf } from "./webhook.ts";

const WEEK_S = 604_800;

export const JobCreate = z
  .strictObject({
    service: Id,
    path: z
      .string()
      .max(512)
      .regex(/^(?!\/)[^?#]*$/, wrong("path_below"))
      .optional()
      .meta({ description: "Below the route; default: the first listed `run` path without `*`." }),
    input: z.unknown().refine((input) => input !== undefined, wrong("required")),
    webhook: Webhook.optional(),
    priority: z.enum(["high", "normal", "low"]).optional(),
    start_deadline_s: z
      .number()
      .positive()
      .max(WEEK_S)
      .optional()
      .meta({ description: "The job fails if it has not started within this many seconds." }),
  })
  .meta({ id: "JobCreate" });
export type JobCreate = z.output<typeof JobCreate>;

/** Headers of the submission that its run obeys: whether the cache may serve it, and how results are stored. */
const OBEYED = ["cache-control", "x-result-ttl", "x-result-visibility"];

/** `large`: the input, if it is too large to be in the body that was parsed. */
export async function draftOf(
  context: CallContext,
  caller: Caller,
  body: JobCreate,
  large: LargeInput | null = null,
): Promise<Draft | Refusal> {
  const { env } = context;
  const service = (await catalog(env)).find(({ id }) => id === body.service);
  if (service === undefined) return refuse("not_found", { param: "service" });
  const denied = mayCall(caller, service.id);
  if (denied !== null) return denied;
  const path = body.path ?? firstRun(service);
  if (path === null) return invalid("path", "path_required");
  const webhook = body.webhook === undefined ? null : webhookOf(env, body.webhook);
  if (isRefusal(webhook)) return webhook;
  const ask = await askOf(context, caller, service, path, body.input, large);
  if (isRefusal(ask)) return ask;
  const { start_deadline_s: deadline, priority = "normal" } = body;
  const startDeadlineAt = deadline === undefined ? null : Math.ceil(Date.now() + deadline * 1000);
  return { ask, priority, startDeadlineAt, webhook };
}

type Path = ServiceRow["config"]["paths"][number];

const isPlainRun = ({ as, path, method }: Path): boolean =>
  as === "run" && !path.includes("*") && (method === "POST" || method === "*");

function firstRun({ config }: ServiceRow): string | null {
  return config.paths.find(isPlainRun)?.path ?? null;
}

async function askOf(
  { env, ctx, request }: CallContext,
  caller: Caller,
  service: ServiceRow,
  path: string,
  input: unknown,
  large: LargeInput | null,
): Promise<Ask | Refusal> {
  const at = target(`http://portico${service.route}${path}`);
  if (isRefusal(at)) return { ...at, param: "path" };
  const entry = listed(service, "POST", at.path);
  if (isRefusal(entry) || entry.as !== "run") return invalid("path", "not_run_path");
  if (!isExact(input)) return invalid("input", "inexact");
  const headers = new Headers({ "content-type": "application/json", accept: "*/*" });
  for (const name of OBEYED) if (request.headers.has(name)) headers.set(name, request.headers.get(name) ?? "");
  if (large !== null) headers.set("content-length", String(large.range.length));
  const content = large === null ? JSON.stringify(input) : await large.body.part(large.range);
  if (content === null) throw new Error("the input of a submission was lost");
  const inner = new Request(request.url, { method: "POST", headers, body: content });
  const place = { bucket: env.RESULTS, later: (work: Promise<unknown>) => ctx.waitUntil(work) };
  const ask = await parseAsk(
    inner,
    { tenant: caller.tenant, service, as: "run", ...at, later: true },
    place,
    Date.now(),
  );
  // Nothing reads a body that was refused by its head.
  if (inner.body?.locked === false) await inner.body.cancel();
  // A `param` that names a header keeps its name.
  if (!isRefusal(ask) || ask.reason !== "invalid_field" || ask.param === null || ask.param.startsWith("X-")) return ask;
  return { ...ask, param: `input.${ask.param}` };
}
