/**
 * `/replicate/v1/files`: files that callers upload to use as inputs. A file is stored in R2 under its tenant's prefix
 * and is readable by that tenant only. It is deleted after a day; beyond FILES_MAX the oldest are deleted.
 */
import { z } from "zod";
import { BUFFERED_BYTES_MAX, letGo, readBody } from "../../body/body.ts";
import type { Caller } from "../../auth.ts";
import { callerWith } from "../../caller/caller.ts";
import { type FormPart, MULTIPART, parseFields } from "../../body/fields.ts";
import { sha256 } from "../../fingerprint.ts";
import { thingOnce } from "../../jobs/create-once.ts";
import { guardHit } from "../../limits.ts";
import { randomText } from "../../caller/keys.ts";
import { media, mediaTypeOf } from "../../results/media.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { iso, Time } from "../../api/time.ts";
import type { CallContext } from "../../call-context.ts";
import { at } from "./models.ts";

/** R2 prefix, as in `files/<tenant>/<id>`. Older files are swept (worker/results/ageing.ts). */
export const FILES = "files/";
export const FILE_AGE_MS_MAX = 86_400_000;
/** Files per tenant; also the most that one R2 list call returns. */
const FILES_MAX = 1_000;
/** Limits of what a caller says about a file. R2 stores up to 8 KB of metadata with an object. */
const NAME_LENGTH_MAX = 200;
const METADATA_LENGTH_MAX = 1_000;
/** Ids begin with the time, so that R2 lists the oldest first. */
const TIME_LENGTH = 9;
const RANDOM_LENGTH = 20;
const ID = /^[0-9A-Za-z]{29}$/;
const TYPE = /^[a-z0-9.+-]{1,60}\/[a-z0-9.+-]{1,60}$/;

const Beside = z.object({
  name: z.string(),
  type: z.string(),
  sha256: z.string(),
  metadata: z.record(z.string(), z.unknown()),
});
type Beside = z.output<typeof Beside>;

export const FileView = z
  .object({
    id: z.string(),
    name: z.string(),
    content_type: z.string(),
    size: z.int(),
    checksums: z.object({ sha256: z.string() }),
    metadata: z.record(z.string(), z.unknown()),
    created_at: Time,
    expires_at: Time,
    urls: z.object({ get: z.string().meta({ description: "URL by which an `input` refers to the file." }) }),
  })
  .meta({ id: "ReplicateFile" });

export const FileForm = z
  .object({
    content: z.string().meta({ format: "binary" }),
    metadata: z.string().optional().meta({ description: "A JSON object of at most 1,000 characters." }),
  })
  .meta({ id: "ReplicateFileForm" });

/** Takes a form of at most 8 MiB. */
export async function createFile(context: CallContext): Promise<Response | Refusal> {
  const { request, env } = context;
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const mediaType = mediaTypeOf(request.headers);
  if (mediaType !== MULTIPART) return refuse("unsupported_media_type", { facts: { expected: MULTIPART } });
  const flood = await guardHit(env, caller, null);
  if (flood !== null) return flood;
  const body = await readBody(request, { max: BUFFERED_BYTES_MAX, tenant: caller.tenant });
  if (isRefusal(body)) return body;
  try {
    if (body.kind !== "bytes") return invalid("content", "required");
    const fields = await parseFields(body.bytes, mediaType, request.headers.get("content-type") ?? "");
    if (isRefusal(fields)) return fields;
    const given = fileGiven(fields?.kind === "form" ? fields.parts : []);
    if (isRefusal(given)) return given;
    const { bytes, ...said } = given;
    const beside: Beside = { ...said, sha256: await sha256(bytes) };
    const make = async (): Promise<string> => {
      await makeRoom(env.RESULTS, caller.tenant);
      const id = newId(Date.now());
      const customMetadata = { file: encodeURIComponent(JSON.stringify(beside)) };
      await env.RESULTS.put(fileKey(caller.tenant, id), bytes, { customMetadata });
      return id;
    };
    // Requests are compared by `beside`, not by the form's bytes: each sending of a form has another boundary.
    return await thingOnce(context, caller, { kind: "file", keepMs: FILE_AGE_MS_MAX }, beside, make, (id) =>
      fileAt(context, caller, id, 201),
    );
  } finally {
    letGo(body);
  }
}

function newId(now: number): string {
  return now.toString(36).padStart(TIME_LENGTH, "0") + randomText(RANDOM_LENGTH);
}

export const fileKey = (tenant: string, id: string): string => `${FILES}${tenant}/${id}`;
export const isFileKey = (key: string): boolean => key.startsWith(FILES);

type FileBrought = { name: string; type: string; bytes: Uint8Array<ArrayBuffer>; metadata: Beside["metadata"] };

function fileGiven(parts: FormPart[]): FileBrought | Refusal {
  const content = parts.find(({ name }) => name === "content");
  if (content === undefined || typeof content.value === "string") return invalid("content", "file");
  const metadata = metadataOf(parts.find(({ name }) => name === "metadata"));
  if (isRefusal(metadata)) return metadata;
  const bytes = content.value;
  const said = content.type.split(";")[0]?.trim().toLowerCase() ?? "";
  // Clients send `application/octet-stream` for types that they do not know, so the content decides first.
  const type = media(bytes)?.type ?? (TYPE.test(said) ? said : "application/octet-stream");
  return { name: (content.filename ?? "").slice(0, NAME_LENGTH_MAX).toWellFormed(), type, bytes, metadata };
}

function metadataOf(part: FormPart | undefined): Beside["metadata"] | Refusal {
  if (part === undefined) return {};
  const wrong = invalid("metadata", "metadata", { max: METADATA_LENGTH_MAX });
  const text = typeof part.value === "string" ? part.value : new TextDecoder().decode(part.value);
  if (text.length > METADATA_LENGTH_MAX) return wrong;
  try {
    const parsed = Beside.shape.metadata.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : wrong;
  } catch {
    return wrong;
  }
}

/** Deletes the oldest files so that one more fits. */
export async function makeRoom(bucket: R2Bucket, tenant: string, most = FILES_MAX): Promise<void> {
  const { objects } = await bucket.list({ prefix: `${FILES}${tenant}/`, limit: FILES_MAX });
  const tooMany = objects.length - most + 1;
  if (tooMany > 0) await bucket.delete(objects.slice(0, tooMany).map(({ key }) => key));
}

export async function getFile(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  return isRefusal(caller) ? caller : fileAt(context, caller, id, 200);
}

async function fileAt(
  context: CallContext,
  caller: Caller,
  id: string,
  status: 200 | 201,
): Promise<Response | Refusal> {
  const object = ID.test(id) ? await context.env.RESULTS.head(fileKey(caller.tenant, id)) : null;
  return object === null || isOld(object)
    ? refuse("not_found")
    : Response.json(fileView(context, id, object, besideOf(object)), { status });
}

export async function deleteFile(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const key = fileKey(caller.tenant, id);
  if (!ID.test(id) || (await context.env.RESULTS.head(key)) === null) return refuse("not_found");
  await context.env.RESULTS.delete(key);
  return new Response(null, { status: 204 });
}

export const typeOf = (object: R2Object): string => besideOf(object).type;

/** The file has expired; the sweep may come later. */
function isOld({ uploaded }: R2Object): boolean {
  return Date.now() - uploaded.getTime() > FILE_AGE_MS_MAX;
}

function besideOf({ customMetadata }: R2Object): Beside {
  return Beside.parse(JSON.parse(decodeURIComponent(customMetadata?.["file"] ?? "")));
}

function fileView(
  { base }: CallContext,
  id: string,
  { size, uploaded }: R2Object,
  beside: Beside,
): z.infer<typeof FileView> {
  const { name, type, sha256: digest, metadata } = beside;
  return {
    id,
    name,
    content_type: type,
    size,
    checksums: { sha256: digest },
    metadata,
    created_at: iso(uploaded.getTime()),
    expires_at: iso(uploaded.getTime() + FILE_AGE_MS_MAX),
    urls: { get: at(base, `files/${id}`) },
  };
}
