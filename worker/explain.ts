/** `POST /v1/fingerprint`: the cache key of a request, and whether and why not it can be cached. Runs nothing. */
import { z } from "zod";
import type { Ask } from "./ask.ts";
import { isJson } from "./fields.ts";
import { mayCall } from "./auth.ts";
import { BUFFERED_BYTES_MAX, readBody } from "./body.ts";
import { Room } from "./buffers.ts";
import { callerWith } from "./caller.ts";
import { catalog, listed, target } from "./catalog.ts";
import type { Env } from "./env.ts";
import { fingerprint } from "./fingerprint.ts";
import { mediaTypeOf } from "./media.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { Id } from "./schema-parts.ts";
import type { Trace } from "./trace.ts";

export const FingerprintBody = z.strictObject({
  service: Id,
  /** Below the service's route. */
  path: z
    .string()
    .max(512)
    .regex(/^[^?#]*$/, "a path below the service's route, without a query"),
  /** JSON already; its depth is the canonical form's business. */
  input: z.unknown().refine((input) => input !== undefined, "is needed"),
});

export const FingerprintAnswer = z.object({
  cacheable: z.boolean(),
  key: z.string().nullable(),
  why_not: z.string().nullable(),
});

export async function explainFingerprint(request: Request, env: Env, trace: Trace): Promise<Response | Refusal> {
  const caller = await callerWith("infer", { request, env, trace });
  if (isRefusal(caller)) return caller;
  const asked = await askedFor(request);
  if (isRefusal(asked)) return asked;
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
    body: { kind: "bytes", bytes: asked.bytes, room: new Room() },
    mediaType: "application/json",
    fields: { kind: "json", value: asked.input },
    deadlineAt: null,
    directives: { noStore: false, noCache: false, onlyIfCached: false },
  };
  const print = await fingerprint(ask, caller.tenant);
  return Response.json(
    print.cacheable
      ? { cacheable: true, key: print.key, why_not: null }
      : { cacheable: false, key: null, why_not: print.why },
  );
}

async function askedFor(
  request: Request,
): Promise<(z.infer<typeof FingerprintBody> & { bytes: Uint8Array<ArrayBuffer> }) | Refusal> {
  if (!isJson(mediaTypeOf(request.headers)))
    return refuse("unsupported_media_type", { facts: { expected: "application/json" } });
  const body = await readBody(request, { max: BUFFERED_BYTES_MAX });
  if (isRefusal(body)) return body;
  if (body.kind !== "bytes") return refuse("malformed_json", { param: "body", facts: { detail: "it is empty" } });
  body.room.free();
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(body.bytes));
  } catch (error) {
    return refuse("malformed_json", { param: "body", facts: { detail: (error as Error).message.slice(0, 200) } });
  }
  const parsed = FingerprintBody.safeParse(value);
  if (parsed.success) return { ...parsed.data, bytes: body.bytes };
  const [issue] = parsed.error.issues;
  const param = (issue?.code === "unrecognized_keys" ? issue.keys[0] : issue?.path.join(".")) ?? "body";
  return refuse("invalid_field", { param, facts: { detail: issue?.message ?? "" } });
}
