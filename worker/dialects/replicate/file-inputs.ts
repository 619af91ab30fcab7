/**
 * Replaces our own file URLs in an `input` by the files' content, without a network request: a `data:` URL, or the file
 * itself where the origin takes a form. Other URLs are kept; the service's `forbid` decides about them.
 */
import type { Caller } from "../../auth.ts";
import { Room } from "../../body/buffers.ts";
import { noRoom } from "../../body/body.ts";
import type { FileGiven, Given, Task } from "../mapping.ts";
import { invalid, type Refusal, isRefusal } from "../../refusal.ts";
import type { Mouth } from "../../mouth.ts";
import { openFile, typeOf } from "./files.ts";
import { at } from "./models.ts";

/** Total of all files of one input. */
const MIB = 1024 * 1024;
const BYTES_MAX = 8 * MIB;
const COUNT_MAX = 16;
/** The bytes, their base64, and the request body that contains it. */
const COPIES = 4;

/** Returns the input with its files filled in. The caller frees `room` when the input is no longer needed. */
export async function withFiles(
  mouth: Mouth,
  caller: Caller,
  task: Task,
  input: Given,
): Promise<{ input: Given; room: Room } | Refusal> {
  const room = new Room(mouth.request.signal, caller.tenant);
  const opened = { mouth, caller, task, room, bytes: 0, count: 0 };
  const filled: Given = {};
  for (const [name, value] of Object.entries(input)) {
    const turned = await turn(opened, `input.${name}`, value);
    if (isRefusal(turned)) {
      room.free();
      return turned;
    }
    Object.defineProperty(filled, name, { value: turned, enumerable: true, writable: true, configurable: true });
  }
  return { input: filled, room };
}

interface Opened {
  mouth: Mouth;
  caller: Caller;
  task: Task;
  room: Room;
  bytes: number;
  count: number;
}

/** Handles a value, or each element of a list. Deeper values belong to the origin and are not changed. */
async function turn(opened: Opened, param: string, value: unknown): Promise<unknown> {
  if (!Array.isArray(value)) return turnOne(opened, param, value);
  const turned: unknown[] = [];
  for (const each of value as unknown[]) {
    const one = await turnOne(opened, param, each);
    if (isRefusal(one)) return one;
    turned.push(one);
  }
  return turned;
}

async function turnOne(opened: Opened, param: string, value: unknown): Promise<unknown> {
  const prefix = at(opened.mouth.base, "files/");
  if (typeof value !== "string" || !value.startsWith(prefix)) return value;
  const file = await read(opened, param, value.slice(prefix.length));
  if (isRefusal(file) || opened.task.body === "multipart") return file;
  return `data:${file.type};base64,${file.bytes.toBase64()}`;
}

async function read(opened: Opened, param: string, id: string): Promise<FileGiven | Refusal> {
  if (++opened.count > COUNT_MAX) return invalid(param, "files_at_most", { max: COUNT_MAX });
  const object = await openFile(opened.mouth, opened.caller, id);
  if (object === null) return invalid(param, "unknown_file");
  opened.bytes += object.size;
  const isTooMuch = opened.bytes > BYTES_MAX;
  if (isTooMuch || !(await opened.room.growSoon(COPIES * opened.bytes))) {
    await object.body.cancel();
    return isTooMuch ? invalid(param, "files_mib", { max_mib: BYTES_MAX / MIB }) : noRoom();
  }
  return { bytes: new Uint8Array(await object.arrayBuffer()), type: typeOf(object) };
}
