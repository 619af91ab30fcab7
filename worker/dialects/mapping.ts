/**
 * How the foreign dialects reach a service's own API: per task a path below the route, a table of fields, and where the
 * results are in the answer. Operators declare this as data; there is no code for single models. Pure.
 *
 * A dialect passes canonical fields, which the table turns into the origin's, and any other fields, which are the
 * origin's own.
 */
import { z } from "zod";
import { at } from "../../durable-objects/json-pointer.ts";
import { detail, type Detail, wrong } from "../details.ts";
import { says } from "../api/schema-parts.ts";

/** A field of a body; dots lead into nested objects. */
const NativeField = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/, wrong("field_name"));
const Pointer = z
  .string()
  .regex(/^(\/([^~/]|~[01])*)*$/, wrong("json_pointer"))
  .max(256);
const PathBelow = z
  .string()
  .max(512)
  .regex(/^(?!\/)[^?#\\%*]+$/, wrong("task_path"));

/** One row of the table. */
const FieldMap = z.strictObject({
  from: z.string().min(1).max(100).meta(says("The dialect's field.")),
  to: NativeField.meta(says("The origin's field.")),
  as: z
    .enum(["same", "width", "height", "base64", "data_url", "given"])
    .optional()
    .meta(
      says(
        "How the value is converted. `same` (default): unchanged; `width`, `height`: from `WxH`; `base64`, `data_url`: an image; `given`: 1 if the field is present.",
      ),
    ),
  values: z
    .record(z.string().min(1).max(200), z.union([z.string().max(1000), z.number(), z.boolean()]))
    .optional()
    .meta(says("Maps the dialect's values to the origin's; other values are passed through.")),
  default: z
    .union([z.string().max(1000), z.number(), z.boolean()])
    .optional()
    .meta(says("What the origin gets if the field is missing.")),
  list: z.int().min(1).max(16).optional().meta(says("The origin takes a list of at most this many elements.")),
});

const Format = z.enum(["png", "jpeg", "webp", "wav", "pcm", "mp3", "opus", "aac", "flac"]);

/** How a service performs one task of the dialects. */
const Task = z.strictObject({
  path: PathBelow.meta(says("Path below the service's route; it must be listed as `run` for POST.")),
  body: z.enum(["json", "multipart"]),
  fields: z.array(FieldMap).max(100).meta(says("Mapped fields; all others are passed to the origin unchanged.")),
  fixed: z
    .record(z.string().min(1).max(200), z.unknown())
    .meta(says("Always sent to the origin; overrides the caller's values. `bounds` and `forbid` apply.")),
  results: Pointer.nullable().meta(
    says("JSON pointer (RFC 6901) to the image, or the list of them, in base64; null: the answer is the result."),
  ),
  formats: z.array(Format).min(1).max(9).meta(says("Formats that the origin can return; the first is its default.")),
  sample_rate_hz: z
    .int()
    .min(8_000)
    .max(192_000)
    .optional()
    .meta(says("Sample rate of raw PCM (16-bit, mono). Default 24000.")),
  progress: z
    .strictObject({
      path: PathBelow.meta(says("Path below the route; called with GET on the card that runs the task.")),
      share: Pointer.meta(says("Pointer to the progress, 0 to 1.")),
      image: Pointer.meta(says("Pointer to the preview image in base64.")),
      running: Pointer.meta(says("Pointer to the number of jobs on the card; previews are read only when it is 1.")),
    })
    .nullable()
    .optional()
    .meta(says("Where previews come from; null: no previews.")),
});
export type Task = z.infer<typeof Task>;

export const TASKS = ["generate", "edit", "speech", "run"] as const;
export type TaskName = (typeof TASKS)[number];

/** A service's tasks by name. Null: the service does not do the task, even if its kind does by default. */
export const Dialects = z.partialRecord(z.enum(TASKS), Task.nullable());
export type Dialects = z.infer<typeof Dialects>;

/** A file that a dialect received. */
export interface FileGiven {
  bytes: Uint8Array<ArrayBuffer>;
  type: string;
}

export type Given = Record<string, unknown>;

/** The origin's fields, or the dialect's invalid field and what is wrong with it. */
export type Mapped = { fields: Given } | { param: string; detail: Detail };

/**
 * Maps a dialect's fields to the origin's. (1) Fields that the table does not name are passed through; (2) those that
 * it names are renamed and converted; (3) fixed values override both. `null` counts as not given, as in the clients'
 * own types.
 */
export function mapped(task: Task, given: Given): Mapped {
  const known = new Set(task.fields.map(({ from }) => from));
  // (1)
  let fields: Given = Object.fromEntries(
    Object.entries(given).filter(([name, value]) => !known.has(name) && isGiven(value)),
  );
  // (2)
  for (const row of task.fields) {
    const value = given[row.from];
    const turned = isGiven(value) ? turn(row, value) : { value: row.default };
    if ("detail" in turned) return { param: row.from, detail: turned.detail };
    if (turned.value !== undefined) fields = withField(fields, row.to.split("."), turned.value);
  }
  // (3)
  return { fields: { ...fields, ...task.fixed } };
}

/** `null` counts as not given. */
export function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** The name by which the caller gave an origin's field: the dialect's, or the origin's own if the caller used that. */
export function nameGiven(task: Task, native: string, given: Given | null): string {
  const row = task.fields.find(({ to, from }) => to === native && (given === null || isGiven(given[from])));
  return row?.from ?? native;
}

type Turned = { value: unknown } | { detail: Detail };

function turn(row: z.infer<typeof FieldMap>, value: unknown): Turned {
  const { list } = row;
  const items: unknown[] = Array.isArray(value) && (list !== undefined || isFile(value[0])) ? value : [value];
  if (items.length > (list ?? 1)) return { detail: detail("elements_at_most", { max: list ?? 1 }) };
  const turned = items.map((item) => turnOne(row, item));
  const failed = turned.find((each) => "detail" in each);
  if (failed !== undefined) return failed;
  const values = turned.map((each) => ("value" in each ? each.value : undefined));
  return { value: list === undefined ? values[0] : values };
}

function turnOne({ as = "same", values }: z.infer<typeof FieldMap>, value: unknown): Turned {
  if (as === "given") return { value: 1 };
  if (as === "base64" || as === "data_url") return image(as, value);
  if (as === "width" || as === "height") return side(as, value);
  const word = typeof value === "string" && values !== undefined && Object.hasOwn(values, value);
  return { value: word ? values[value] : value };
}

/** Width or height of `WxH`; `auto` leaves it to the origin. */
function side(as: "width" | "height", value: unknown): Turned {
  if (value === "auto") return { value: undefined };
  const [, width, height] = /^([1-9]\d{0,4})x([1-9]\d{0,4})$/.exec(typeof value === "string" ? value : "") ?? [];
  if (width === undefined || height === undefined) return { detail: detail("size") };
  return { value: Number(as === "width" ? width : height) };
}

/** A URL other than `data:` is passed through: the service's `forbid` decides whether it is accepted. */
function image(as: "base64" | "data_url", value: unknown): Turned {
  if (isFile(value)) {
    const base64 = value.bytes.toBase64();
    return { value: as === "base64" ? base64 : `data:${value.type};base64,${base64}` };
  }
  if (typeof value !== "string") return { detail: detail("image") };
  return { value: as === "base64" ? value.replace(/^data:[^,]{0,200};base64,/, "") : value };
}

export function isFile(value: unknown): value is FileGiven {
  return typeof value === "object" && value !== null && (value as { bytes?: unknown }).bytes instanceof Uint8Array;
}

function withField(object: Given, [name = "", ...rest]: string[], value: unknown): Given {
  if (rest.length === 0) return { ...object, [name]: value };
  const inner = object[name];
  const isObject = typeof inner === "object" && inner !== null && !Array.isArray(inner);
  return { ...object, [name]: withField(isObject ? (inner as Given) : {}, rest, value) };
}

/** Returns the value at a pointer as a list; a single value becomes a list of one, a missing value an empty list. */
export function listAt(value: unknown, pointer: string): unknown[] {
  const found = at(value, pointer);
  return found === undefined || found === null ? [] : [found].flat();
}
