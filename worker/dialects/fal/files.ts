/**
 * Files that clients upload as inputs. They belong to their tenant alone, are kept for a day, and are passed to origins
 * as data. They are stored with the spooled bodies, so that the same sweep deletes them.
 */
import { z } from "zod";
import { drain, MIB, tooSlow } from "../../body/body.ts";
import type { Caller } from "../../auth.ts";
import { callerWith } from "../../caller/caller.ts";
import { config } from "../../env.ts";
import { checkedBody } from "../../api/json-body.ts";
import { randomText } from "../../caller/keys.ts";
import { guardHit } from "../../limits.ts";
import { mediaTypeOf } from "../../results/media.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { signatureRefusal, signedQuery } from "../../results/signature.ts";
import { INPUTS } from "../../body/spool.ts";
import { unlessLate } from "../../run/until.ts";
import type { CallContext } from "../../call-context.ts";

/** Largest file. */
const FILE_BYTES_MAX = 12 * MIB;
/** Largest body that is drained before it is refused: clients upload up to this size in one request. */
const DRAINED_BYTES_MAX = 100 * MIB;
/** Lifetime of a file, and of its upload URL. */
const FILE_MS = 86_400_000;
const UPLOAD_MS = 3_600_000;
/** Timeout for an upload. */
const COMING_MS_MAX = 300_000;
const ID_LENGTH = 24;
const ID = /^[0-9A-Za-z]{24}$/;
const READ = "fal-file";
const WRITE = "fal-upload";
const BODY = { bytesMax: 64 * 1024, depthMax: 8, emptyIsObject: false };

export const UploadBody = z.looseObject({
  content_type: z.string().max(200).optional(),
  file_name: z.string().max(500).optional(),
});

export const UploadView = z.object({ upload_url: z.string(), file_url: z.string() }).meta({ id: "FalUpload" });

const PLAIN_TYPE = /^[\w.+-]{1,100}\/[\w.+-]{1,100}$/;

export const uploadKey = (id: string): string => `${INPUTS}fal-${id}`;

/** Returns a signed upload URL, and the signed URL under which the file will be readable. */
export async function initiate(context: CallContext): Promise<Response | Refusal> {
  const { env, base } = context;
  const caller = await callerWithFiles(context);
  if (isRefusal(caller)) return caller;
  const checked = await checkedBody(context.request, UploadBody, BODY);
  if (isRefusal(checked)) return checked;
  const flood = await guardHit(env, caller, null);
  if (flood !== null) return flood;
  const id = randomText(ID_LENGTH);
  const [now, keys] = [Date.now(), config(env)];
  const upload = await signedQuery(keys, WRITE, `${id}\n${caller.tenant}`, now + UPLOAD_MS);
  const url = `${base}/fal/files/${id}`;
  return Response.json({
    upload_url: `${url}?tenant=${encodeURIComponent(caller.tenant)}&${upload}`,
    file_url: `${url}?${await signedQuery(keys, READ, id, now + FILE_MS)}`,
  } satisfies z.infer<typeof UploadView>);
}

/** A key with either of the scopes that can call models may upload files. */
async function callerWithFiles(context: CallContext): Promise<Caller | Refusal> {
  const caller = await callerWith("infer", context);
  return isRefusal(caller) && caller.reason === "scope" ? callerWith("jobs", context) : caller;
}

/** Refuses multipart uploads, which clients use only for files over the limit, before any data is sent. */
export function noMultipart(): Refusal {
  return refuse("body_too_large", { facts: { max_mb: FILE_BYTES_MAX / MIB } });
}

export async function fileCall(context: CallContext, id: string): Promise<Response | Refusal> {
  if (!ID.test(id)) return refuse("not_found");
  return context.request.method === "PUT" ? put(context, id) : get(context, id);
}

async function put({ request, env }: CallContext, id: string): Promise<Response | Refusal> {
  const query = new URL(request.url).searchParams;
  const tenant = query.get("tenant") ?? "";
  const denied = await signatureRefusal(config(env), `${id}\n${tenant}`, query, Date.now(), WRITE);
  if (denied !== null) return denied;
  const length = request.headers.get("content-length");
  if (length === null || !/^\d{1,15}$/.test(length)) return invalid("Content-Length", "required");
  if (Number(length) > FILE_BYTES_MAX) return tooLarge(request, Number(length));
  const type = mediaTypeOf(request.headers) ?? "";
  const kept = env.RESULTS.put(uploadKey(id), request.body ?? new Uint8Array(0), {
    httpMetadata: { contentType: PLAIN_TYPE.test(type) ? type : "application/octet-stream" },
    customMetadata: { tenant },
  });
  const stored = await unlessLate(
    kept.catch(() => invalid("body", "incomplete")),
    Date.now() + COMING_MS_MAX,
  );
  if (stored === null) return tooSlow(COMING_MS_MAX);
  return isRefusal(stored) ? stored : Response.json({});
}

/** Drains the body: clients send all of it before they read the response. */
async function tooLarge(request: Request, length: number): Promise<Refusal> {
  if (length <= DRAINED_BYTES_MAX) await drain(request, COMING_MS_MAX);
  else await request.body?.cancel().catch(() => undefined);
  return noMultipart();
}

async function get({ request, env }: CallContext, id: string): Promise<Response | Refusal> {
  const denied = await signatureRefusal(config(env), id, new URL(request.url).searchParams, Date.now(), READ);
  if (denied !== null) return denied;
  const object = await env.RESULTS.get(uploadKey(id));
  if (object === null) return refuse("not_found");
  const headers = {
    "content-type": object.httpMetadata?.contentType ?? "application/octet-stream",
    "content-length": String(object.size),
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
  };
  return new Response(object.body, { headers });
}
