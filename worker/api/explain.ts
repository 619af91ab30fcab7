/** `POST /v1/fingerprint`: a request's cache key, or the reason why it cannot be cached. Runs nothing. */
import { z } from "zod";
import type { Ask } from "../ask.ts";
import { mayCall } from "../auth.ts";
import { BUFFERED_BYTES_MAX } from "../body/body.ts";
import { Room } from "../body/buffers.ts";
import { callerWith } from "../caller/caller.ts";
import { catalog, listed, target } from "../services/catalog.ts";
import { type Env, unsureHost } from "../env.ts";
import { fingerprintOf } from "../fingerprint.ts";
import { checkedBody } from "./json-body.ts";
import { wrong } from "../details.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { Id } from "./schema-parts.ts";
import type { Trace } from "../trace.ts";

/** No depth limit: a request too deep for the canonical form is just not cacheable. */
const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: null, emptyIsObject: false };

export const FingerprintBody = z.strictObject({
  service: Id,
  /** Below the service's route. */
  path: z
    .string()
    .max(512)
    .regex(/^[^?#]*$/, wrong("path_no_query")),
  /** Already parsed JSON; the canonical form handles its depth. */
  input: z.unknown().refine((input) => input !== undefined, wrong("required")),
});

export const FingerprintAnswer = z.object({
  cacheable: z.boolean(),
  key: z.string().nullable(),
  why_not: z.string().nullable(),
});

export async function explainFingerprint(request: Request, env: Env, trace: Trace): Promise<Response | Refusal> {
  const caller = await callerWith("infer", { request, env, trace });
  if (isRefusal(caller)) return caller;
  const checked = await checkedBody(request, FingerprintBody, BODY);
  if (isRefusal(checked)) return checked;
  const asked = checked.body;
  const service = (await catalog(env)).find((row) => row.id === asked.service);
  if (service === undefined) return refuse("not_found");
  const barred = mayCall(caller, service.id);
  if (barred !== null) return barred;
  const at = target(`http://portico${service.route}${asked.path}`);
  if (isRefusal(at)) return at;
  const entry = listed(service, "POST", at.path);
  if (isRefusal(entry)) return entry;
  const ask: Ask = {
    service,
    as: entry.as,
    method: "POST",
    ...at,
    headers: new Headers(),
    body: { kind: "bytes", bytes: new Uint8Array(), room: new Room() },
    mediaType: "application/json",
    fields: { kind: "json", value: asked.input },
    deadlineAt: null,
    directives: { noStore: false, noCache: false, onlyIfCached: false },
    // Unused: nothing is run.
    delivery: { lifeMs: 0, visibility: "private" },
  };
  const fingerprint = await fingerprintOf(ask, caller.tenant, unsureHost(env, new URL(request.url).origin));
  return Response.json(
    fingerprint.cacheable
      ? { cacheable: true, key: fingerprint.key, why_not: null }
      : { cacheable: false, key: null, why_not: fingerprint.why },
  );
}
