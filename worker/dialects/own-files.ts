/**
 * Replaces our own URLs in a dialect's input (of uploaded files and of results) by their content. The content is read
 * from R2, never fetched, and only if it belongs to the tenant. It becomes a file if the origin takes a form, otherwise
 * a `data:` URL. Other URLs are left unchanged; the service's `forbid` decides about them.
 */
import type { Caller } from "../auth.ts";
import { noRoom } from "../body/body.ts";
import { Room } from "../body/buffers.ts";
import type { CallContext } from "../call-context.ts";
import { invalid, type Refusal, isRefusal } from "../refusal.ts";
import { resultKey } from "../results/result.ts";
import { uploadKey } from "./fal/files.ts";
import type { FileGiven, Given, Task } from "./mapping.ts";
import { FILE_AGE_MS_MAX, fileKey, isFileKey, typeOf } from "./replicate/files.ts";

const MIB = 1024 * 1024;
/** Maximum total size and number of the files in one input. */
const BYTES_MAX = 12 * MIB;
const COUNT_MAX = 16;
/** Memory needed per byte of a file, which is held as bytes, as base64 and in the origin's body. */
const COPIES = 5;

/** How to build the R2 key of a file, by the path of its URL below `base`. */
const KEYS: Record<string, (tenant: string, id: string) => string> = {
  "fal/files": (_tenant, id) => uploadKey(id),
  "replicate/v1/files": fileKey,
  "v1/results": (_tenant, id) => resultKey(id),
};

/** Returns the input with its files filled in. The caller frees `room` when the input is no longer needed. */
export async function withFiles(
  context: CallContext,
  { tenant }: Caller,
  { body }: Pick<Task, "body">,
  input: Given,
): Promise<{ input: Given; room: Room } | Refusal> {
  const room = new Room(context.request.signal, tenant);
  const opened = { context, tenant, pattern: patternOf(context.base), asFile: body === "multipart", room };
  const filled = await fill({ ...opened, bytes: 0, count: 0 }, input, "");
  if (!isRefusal(filled)) return { input: filled as Given, room };
  room.free();
  return filled;
}

interface Opened {
  context: CallContext;
  tenant: string;
  pattern: RegExp;
  asFile: boolean;
  room: Room;
  bytes: number;
  count: number;
}

function patternOf(base: string): RegExp {
  return new RegExp(`^${RegExp.escape(base)}/(${Object.keys(KEYS).join("|")})/([0-9A-Za-z_]{8,68})(?:\\?|$)`);
}

/** Replaces URLs in a value, recursively. `param`: the top-level field that contains the value. */
async function fill(opened: Opened, value: unknown, param: string): Promise<unknown> {
  const key = keyAt(opened, value);
  if (key !== null) {
    const file = await read(opened, key, param);
    return isRefusal(file) || opened.asFile ? file : `data:${file.type};base64,${file.bytes.toBase64()}`;
  }
  if (typeof value !== "object" || value === null) return value;
  const members: [string, unknown][] = [];
  for (const [name, member] of Object.entries(value)) {
    const whole = await fill(opened, member, param === "" ? name : param);
    if (isRefusal(whole)) return whole;
    members.push([name, whole]);
  }
  return Array.isArray(value) ? members.map(([, member]) => member) : Object.fromEntries(members);
}

function keyAt({ pattern, tenant }: Opened, text: unknown): string | null {
  const [, place = "", id = ""] = typeof text === "string" && text.length < 2048 ? (pattern.exec(text) ?? []) : [];
  return KEYS[place]?.(tenant, id) ?? null;
}

async function read(opened: Opened, key: string, param: string): Promise<FileGiven | Refusal> {
  const { context, tenant, room } = opened;
  const { RESULTS } = context.env;
  const head = await RESULTS.head(key);
  const missing = invalid(param, "unknown_file");
  if (head === null || !isOwn(tenant, head)) return missing;
  opened.bytes += head.size;
  opened.count += 1;
  if (opened.count > COUNT_MAX) return invalid(param, "files_at_most", { max: COUNT_MAX });
  if (opened.bytes > BYTES_MAX) return invalid(param, "files_mib", { max_mib: BYTES_MAX / MIB });
  if (!(await room.growSoon(COPIES * opened.bytes))) return noRoom();
  const object = await RESULTS.get(key, { onlyIf: { etagMatches: head.etag } });
  if (object === null || !("body" in object)) return missing;
  const type = isFileKey(key) ? typeOf(object) : object.httpMetadata?.contentType;
  return { bytes: new Uint8Array(await object.arrayBuffer()), type: type ?? "application/octet-stream" };
}

/** Whether the object belongs to the tenant and has not expired. Uploads expire after a day. */
function isOwn(tenant: string, { key, customMetadata, uploaded }: R2Object): boolean {
  const { tenant: owner, expiresAt = uploaded.getTime() + FILE_AGE_MS_MAX } = customMetadata ?? {};
  return (isFileKey(key) || owner === tenant) && Number(expiresAt) > Date.now();
}
