/**
 * How the foreign dialects reach a service's own API: per task a path below the route, a table of fields, and where the
 * results are in the answer. Operators declare this as data; there is no code for single models. Pure.
 *
 * A dialect passes canonical fields, which the table turns into the origin's, and any other fields, which are the
 * origin's own.
 */
import { z } from "zod";
import { at } from "../../durable-objects/json-pointer.ts";
import { says } from "../api/schema-parts.ts";

/** A field of a body; dots lead into nested objects. */
const NativeField = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/, "a field's name; dots lead into objects");
const Pointer = z
  .string()
  .regex(/^(\/([^~/]|~[01])*)*$/)
  .max(256);
const PathBelow = z
  .string()
  .max(512)
  .regex(/^(?!\/)[^?#\\%*]+$/, "a path below the route, without a leading slash, query, escape or star");

/** One row of the table. */
const FieldMap = z.strictObject({
  from: z.string().min(1).max(100).meta(says("The dialect's field.")),
  to: NativeField.meta(says("The origin's field.")),
  as: z
    .enum(["same", "width", "height", "base64", "data_url", "given"])
    .optional()
    .meta(
      says(
        "`same` (default); `width` or `height` of a `WxH`; an image as `base64` or `data_url`; `given`: 1 when it is there.",
      ),
    ),
  values: z
    .record(z.string().min(1).max(200), z.union([z.string().max(1000), z.number(), z.boolean()]))
    .optional()
    .meta(says("The origin's words for the dialect's; what is not in it stays.")),
  default: z
    .union([z.string().max(1000), z.number(), z.boolean()])
    .optional()
    .meta(says("What the origin gets when the field is not given.")),
  list: z.int().min(1).max(16).optional().meta(says("The origin takes a list, of at most so many.")),
});

const Format = z.enum(["png", "jpeg", "webp", "wav", "pcm", "mp3", "opus", "aac", "flac"]);

/** How a service performs one task of the dialects. */
const Task = z.strictObject({
  path: PathBelow.meta(says("Below the route; a listed POST that runs.")),
  body: z.enum(["json", "multipart"]),
  fields: z.array(FieldMap).max(100).meta(says("Fields that are not in it go to the origin as they are.")),
  fixed: z
    .record(z.string().min(1).max(200), z.unknown())
    .meta(says("What the origin gets whatever is asked; under `bounds` and `forbid` like any field.")),
  results: Pointer.nullable().meta(
    says("JSON pointer (RFC 6901) to the image, or the list of them, in base64; null: the answer is the result."),
  ),
  formats: z.array(Format).min(1).max(9).meta(says("What the origin gives; the first without being asked.")),
  sample_rate_hz: z
    .int()
    .min(8_000)
    .max(192_000)
    .optional()
    .meta(says("Of samples that come bare (16 bits, mono). Default 24000.")),
  progress: z
    .strictObject({
      path: PathBelow.meta(says("Below the route; asked with GET, at the very card that runs the task.")),
      share: Pointer.meta(says("What is done, 0 to 1.")),
      image: Pointer.meta(says("The picture as far as it is, in base64.")),
      running: Pointer.meta(says("How many jobs the card has; only of a single one a picture is taken.")),
    })
    .nullable()
    .optional()
    .meta(says("Where previews come from; null: there are none.")),
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
export type Mapped = { fields: Given } | { param: string; detail: string };

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

type Turned = { value: unknown } | { detail: string };

function turn(row: z.infer<typeof FieldMap>, value: unknown): Turned {
  const { list } = row;
  const items: unknown[] = Array.isArray(value) && (list !== undefined || isFile(value[0])) ? value : [value];
  if (items.length > (list ?? 1)) return { detail: `must be at most ${list ?? 1}` };
  const turned = items.map((item) => turnOne(row, item));
  const wrong = turned.find((each) => "detail" in each);
  if (wrong !== undefined) return wrong;
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
  if (width === undefined || height === undefined) return { detail: "must be WIDTHxHEIGHT, or auto" };
  return { value: Number(as === "width" ? width : height) };
}

/** A URL other than `data:` is passed through: the service's `forbid` decides whether it is accepted. */
function image(as: "base64" | "data_url", value: unknown): Turned {
  if (isFile(value)) {
    const base64 = value.bytes.toBase64();
    return { value: as === "base64" ? base64 : `data:${value.type};base64,${base64}` };
  }
  if (typeof value !== "string") return { detail: "must be an image" };
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
