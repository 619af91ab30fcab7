/** `/v1/webhooks`: the tenant's signing secret, and the deliveries. */
import { z } from "zod";
import { type Delivery, DELIVERY_STATES } from "../../durable-objects/courier-protocol.ts";
import type { Caller } from "../auth.ts";
import { callerWith } from "../caller/caller.ts";
import { checkFields } from "../api/json-body.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { cursorOf, positionOf } from "../api/page.ts";
import { digits } from "../api/schema-parts.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import type { CallContext } from "../call-context.ts";
import { isReplay, onceOf, REPLAYED } from "../once.ts";
import { iso, isoOrNull, Time } from "../api/time.ts";
import { thingOnce } from "./create-once.ts";
import { tenantSecret } from "./webhook.ts";

const LIST_MAX = 100;
const LIST_DEFAULT = 20;
/** How long a repeated rotation or replay is recognized by its key. A previous secret keeps signing for as long. */
const KEY_KEPT_MS = 86_400_000;

export const SecretView = z
  .object({ key: z.string().meta({ description: "`whsec_` and base64, as in Standard Webhooks." }) })
  .meta({ id: "WebhookSecret" });

export const DeliveryView = z
  .object({
    id: z.string(),
    event: z.string().meta({ description: "`webhook-id`: the same in every attempt to send an event." }),
    type: z.string().meta({
      description:
        "`job.succeeded`, `job.failed`, `job.canceled`, `batch.finished`; `job.started` if a dialect asks for it.",
    }),
    job: z.string().nullable(),
    batch: z.string().nullable(),
    url: z.string(),
    status: z.enum(DELIVERY_STATES).meta({
      description:
        "`failed`: all attempts failed. `disabled`: the URL answered 410; a replay that succeeds enables it again.",
    }),
    attempts: z.array(
      z.object({
        number: z.int(),
        at: Time,
        ms: z.int(),
        status: z.int().nullable().meta({ description: "Status of the receiver's answer." }),
        error: z.string().nullable(),
      }),
    ),
    created_at: Time,
    next_attempt_at: Time.nullable(),
    finished_at: Time.nullable(),
  })
  .meta({ id: "WebhookDelivery" });

export const DeliveriesQuery = z.object({
  status: z.enum(DELIVERY_STATES).optional(),
  limit: digits(1, LIST_MAX).optional(),
  cursor: z.string().max(200).optional().meta({ description: "`next_cursor` of the previous page." }),
});

export async function getSecret(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  return secret(context, caller, await withTimeout(courierOf(context, caller).generations()));
}

/** A repeat with the same `Idempotency-Key` gets the secret that the first call made. */
export async function rotateSecret(context: CallContext): Promise<Response | Refusal> {
  const { request, env, trace } = context;
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const { pathname: path } = new URL(request.url);
  const named = { method: request.method, path, query: "", contentType: null, body: new Uint8Array() };
  const once = await onceOf(env, caller, request, named, false);
  if (isRefusal(once)) return once;
  if (isReplay(once)) {
    if (once.replay.kind !== "secret") throw new Error("a name of another call");
    trace.headers.set(REPLAYED, "true");
    return secret(context, caller, [once.replay.generation]);
  }
  try {
    const generations = await withTimeout(courierOf(context, caller).rotate());
    await once?.settle({ kind: "secret", generation: generations[0] ?? 1 }, KEY_KEPT_MS);
    return await secret(context, caller, generations);
  } finally {
    await once?.drop();
  }
}

async function secret({ env }: CallContext, { tenant }: Caller, [latest = 1]: number[]): Promise<Response> {
  const body: z.infer<typeof SecretView> = { key: await tenantSecret(env, tenant, latest) };
  return Response.json(body);
}

export async function listDeliveries(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const query = checkFields(DeliveriesQuery, Object.fromEntries(new URL(context.request.url).searchParams));
  if (isRefusal(query)) return query;
  const { status: state = null, limit = LIST_DEFAULT, cursor } = query.body;
  const from = positionOf(cursor, z.tuple([z.int()]));
  if (isRefusal(from)) return from;
  const before = from.at?.[0] ?? null;
  const rows = await withTimeout(courierOf(context, caller).list({ state, before, limit: limit + 1 }));
  const shown = rows.slice(0, limit);
  const last = rows.length > limit ? shown.at(-1) : undefined;
  return Response.json({
    data: shown.map(deliveryView),
    next_cursor: last === undefined ? null : cursorOf([last.place]),
  });
}

export async function getDelivery(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const delivery = await withTimeout(courierOf(context, caller).delivery(id));
  return delivery === null ? refuse("not_found") : Response.json(deliveryView(delivery));
}

/** 202: sends the same event again as a new delivery. A delivery that is still pending is sent now instead. */
export async function replayDelivery(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const courier = courierOf(context, caller);
  const make = async (): Promise<string | Refusal> =>
    (await withTimeout(courier.replay(id)))?.id ?? refuse("not_found");
  const show = async (made: string): Promise<Response | Refusal> => {
    const delivery = await withTimeout(courier.delivery(made));
    if (delivery === null) return refuse("not_found");
    const headers = { location: `/v1/webhooks/deliveries/${delivery.id}` };
    return Response.json(deliveryView(delivery), { status: 202, headers });
  };
  return thingOnce(context, caller, { kind: "delivery", keepMs: KEY_KEPT_MS }, null, make, show);
}

function courierOf({ env }: CallContext, { tenant }: Caller) {
  return env.COURIER.getByName(tenant);
}

function deliveryView(delivery: Delivery): z.infer<typeof DeliveryView> {
  const { id, event, type, subject, url, state, tries, createdAt, nextAt, endedAt } = delivery;
  return {
    id,
    event,
    type,
    job: subject.kind === "job" ? subject.id : null,
    batch: subject.kind === "batch" ? subject.id : null,
    url,
    status: state,
    attempts: tries.map(({ at, ...made }) => ({ ...made, at: iso(at) })),
    created_at: iso(createdAt),
    next_attempt_at: isoOrNull(nextAt),
    finished_at: isoOrNull(endedAt),
  };
}
