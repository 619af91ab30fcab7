/** `POST /v1/fingerprint`: the cache key of a request, and whether and why not it can be cached. Runs nothing. */
import { z } from "zod";
import { type Ask, isJson } from "./ask.ts";
import { authenticate, mayCall, mayUse } from "./auth.ts";
import { readBody } from "./body.ts";
import { Room } from "./buffers.ts";
import { catalog, listed, target } from "./catalog.ts";
import type { Env } from "./env.ts";
import { fingerprint } from "./fingerprint.ts";
import { ratePolicy } from "./limits.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";
import { Id } from "./service.ts";
import { timed, type Trace } from "./trace.ts";

const BODY_BYTES_MAX = 8 * 1024 * 1024;

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
  const caller = await timed(trace, "auth", () => authenticate(request, env));
  if (isRefusal(caller)) return caller;
  trace.headers.set("ratelimit-policy", ratePolicy(caller));
  const denied = mayUse(caller, "infer");
  if (denied !== null) return denied;
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
  const mediaType = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? null;
  if (!isJson(mediaType)) return refuse("unsupported_media_type", { facts: { expected: "application/json" } });
  const body = await readBody(request, { max: BODY_BYTES_MAX, checked: true });
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
