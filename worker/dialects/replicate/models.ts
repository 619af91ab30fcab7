/** Replicate's models and account. A model is a service, with a single version: its current one. */
import { z } from "zod";
import { type Caller, mayCall } from "../../auth.ts";
import { callerWith } from "../../caller/caller.ts";
import { catalog } from "../../services/catalog.ts";
import type { ServiceRow } from "../../db/queries.ts";
import type { Env } from "../../env.ts";
import { sha256 } from "../../fingerprint.ts";
import { type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { iso, Time } from "../../api/time.ts";
import type { CallContext } from "../../call-context.ts";
import { modelNamed, OWNER, servicesFor } from "../task.ts";

export const Version = z
  .object({
    id: z.string().meta({ description: "Changes with the service's `model_version`." }),
    created_at: Time,
    cog_version: z.null(),
    openapi_schema: z.null(),
  })
  .meta({ id: "ModelVersion" });

export const ReplicateModel = z
  .object({
    url: z.string(),
    owner: z.literal(OWNER),
    name: z.string().meta({ description: "The service's id." }),
    description: z.string(),
    visibility: z.literal("private"),
    is_official: z.literal(false),
    run_count: z.literal(0),
    latest_version: Version,
  })
  .meta({ id: "ReplicateModel" });

export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ results: z.array(item), next: z.string().nullable(), previous: z.null() });
export const VersionPage = pageOf(Version);

export const Account = z
  .object({ type: z.literal("organization"), username: z.string(), name: z.string() })
  .meta({ id: "ReplicateAccount" });

/** The URL of a path in this dialect. */
export const at = (base: string, path: string): string => `${base}/replicate/v1/${path}`;

export const modelName = (service: string): string => `${OWNER}/${service}`;

/** The id of the service's current version. It is unique to the service, so calls may give it alone. */
export async function versionOf(env: Env, service: string): Promise<string> {
  const row = (await catalog(env)).find(({ id }) => id === service);
  return versionId(service, row?.config.model_version ?? null);
}

function versionId(service: string, version: string | null): Promise<string> {
  return sha256(new TextEncoder().encode(`version\n${service}\n${version ?? ""}`));
}

/** Returns the service named by `owner/name`, `owner/name:version`, a version id or a service id; otherwise 404. */
export async function serviceMeant(
  { env }: Pick<CallContext, "env">,
  caller: Caller,
  text: string,
): Promise<ServiceRow | Refusal> {
  const [, owner, name = "", version] = /^([^/:]+)\/([^/:]+)(?::(.+))?$/.exec(text) ?? [];
  const unknown = refuse("not_found", { param: "model", facts: { model: text.slice(0, 100) } });
  if (owner !== undefined && owner !== OWNER) return unknown;
  const wanted = owner === undefined ? text : (version ?? name);
  for (const service of await catalog(env)) {
    if (owner !== undefined && service.id !== name) continue;
    const isMeant = service.id === wanted || (await versionOf(env, service.id)) === wanted;
    if (isMeant) return mayCall(caller, service.id) ?? service;
  }
  return unknown;
}

async function modelView({ base }: CallContext, service: ServiceRow): Promise<z.infer<typeof ReplicateModel>> {
  return {
    url: at(base, `models/${modelName(service.id)}`),
    owner: OWNER,
    name: service.id,
    description: `The service ${service.id}.`,
    visibility: "private",
    is_official: false,
    run_count: 0,
    latest_version: await versionView(service),
  };
}

async function versionView({ id, config, createdAt }: ServiceRow): Promise<z.infer<typeof Version>> {
  return {
    id: await versionId(id, config.model_version),
    created_at: iso(createdAt),
    cog_version: null,
    openapi_schema: null,
  };
}

const page = (results: unknown[]): Response => Response.json({ results, next: null, previous: null });

export async function listModels(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const services = await servicesFor(context, caller);
  return page(await Promise.all(services.map((service) => modelView(context, service))));
}

export async function getModel(context: CallContext, owner: string, name: string): Promise<Response | Refusal> {
  const service = await asked(context, owner, name);
  return isRefusal(service) ? service : Response.json(await modelView(context, service));
}

export async function listVersions(context: CallContext, owner: string, name: string): Promise<Response | Refusal> {
  const service = await asked(context, owner, name);
  return isRefusal(service) ? service : page([await versionView(service)]);
}

export async function getVersion(
  context: CallContext,
  owner: string,
  name: string,
  version: string,
): Promise<Response | Refusal> {
  const service = await asked(context, owner, name);
  if (isRefusal(service)) return service;
  const view = await versionView(service);
  return view.id === version ? Response.json(view) : refuse("not_found");
}

async function asked(context: CallContext, owner: string, name: string): Promise<ServiceRow | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  return owner === OWNER ? modelNamed(context, caller, name) : refuse("not_found");
}

export async function getAccount(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const { tenant } = caller;
  return Response.json({ type: "organization", username: tenant, name: tenant } satisfies z.infer<typeof Account>);
}
