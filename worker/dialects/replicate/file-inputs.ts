/**
 * Our own file URLs in an `input`, replaced by what they name, which never goes over the network: a `data:` URL, or the
 * file itself where the origin takes a form. Every other URL stays one, for the service's `forbid` to judge.
 */
import type { Caller } from "../../auth.ts";
import { Room } from "../../body/buffers.ts";
import { noRoom } from "../../body/body.ts";
import { invalid } from "../../api/json-body.ts";
import type { FileGiven, Given, Task } from "../mapping.ts";
import { type Refusal, isRefusal } from "../../refusal.ts";
import type { Mouth } from "../../mouth.ts";
import { openFile, typeOf } from "./files.ts";
import { at } from "./models.ts";

/** Of all files of one input together. */
const BYTES_MAX = 8 * 1024 * 1024;
const COUNT_MAX = 16;
/** The bytes, their base64, and the body that it stands in. */
const COPIES = 4;

/** The input with its files in it; `room` is theirs, to be freed when the input is no longer needed. */
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

/** A value, and each of a list; what lies deeper is the origin's own and stays as it is. */
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
  if (++opened.count > COUNT_MAX) return invalid(param, `more than ${COUNT_MAX} files`);
  const object = await openFile(opened.mouth, opened.caller, id);
  if (object === null) return invalid(param, "names a file that is not there, or not any more");
  opened.bytes += object.size;
  const isTooMuch = opened.bytes > BYTES_MAX;
  if (isTooMuch || !(await opened.room.growSoon(COPIES * opened.bytes))) {
    await object.body.cancel();
    return isTooMuch ? invalid(param, "more than 8 MiB of files") : noRoom();
  }
  return { bytes: new Uint8Array(await object.arrayBuffer()), type: typeOf(object) };
}
