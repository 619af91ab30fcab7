/** `/v1/models`: the services that the key may use. */
import { z } from "zod";
import { callerWith } from "../../caller/caller.ts";
import type { ServiceRow } from "../../db/queries.ts";
import { type Refusal, isRefusal } from "../../refusal.ts";
import type { CallContext } from "../../call-context.ts";
import { modelNamed, servicesFor } from "../task.ts";

export const Model = z
  .object({ id: z.string(), object: z.literal("model"), created: z.int(), owned_by: z.literal("portico") })
  .meta({ id: "Model" });

export async function listModels(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const services = await servicesFor(context, caller);
  return Response.json({ object: "list", data: services.map(modelView) });
}

export async function getModel(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const service = await modelNamed(context, caller, id);
  return isRefusal(service) ? service : Response.json(modelView(service));
}

function modelView({ id, createdAt }: ServiceRow): z.infer<typeof Model> {
  return { id, object: "model", created: Math.floor(createdAt / 1000), owned_by: "portico" };
}
