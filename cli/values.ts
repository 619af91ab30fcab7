/** Parses flag values into what the API expects. Validation is left to the API. */
import { readFile } from "node:fs/promises";
import { text as textOf } from "node:stream/consumers";
import { InvalidArgumentError } from "commander";
import { messageOf } from "../local/failure.ts";
import { usageFailure } from "./failure.ts";
import { isThing } from "./table.ts";

export type Body = Record<string, unknown>;

/** The API accepts no longer bodies. */
const FILE_LENGTH_MAX = 1024 * 1024;
const SECONDS: Record<string, number> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 };

export function number(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw new InvalidArgumentError("Not a number.");
}

/** An integer of 1 or more. */
export function count(text: string): number {
  const value = number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("Not a whole number above zero.");
}

export function words(text: string): string[] {
  return text.split(",").map((word) => word.trim());
}

/** The seconds in `90`, `90s`, `15m`, `12h`, `30d`. */
export function seconds(text: string): number {
  const [, amount, unit = ""] = /^(\d+)([smhd]?)$/.exec(text) ?? [];
  const factor = SECONDS[unit];
  if (amount !== undefined && factor !== undefined) return Number(amount) * factor;
  throw new InvalidArgumentError("Not a time span; examples: 90, 15m, 12h, 30d.");
}

/** An API timestamp from a span from now, a date (its beginning in UTC) or a time with its offset; null for `never`. */
export function moment(text: string): string | null {
  return momentAfter(text, Date.now());
}

export function momentAfter(text: string, now: number): string | null {
  if (text === "never") return null;
  if (/^\d+[smhd]$/.test(text)) return iso(now + seconds(text) * 1000);
  const shaped = /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:?\d{2}))?$/.test(text);
  return iso(shaped ? Date.parse(text) : Number.NaN);
}

function iso(ms: number): string {
  const date = new Date(ms);
  if (!Number.isNaN(date.getTime())) return date.toISOString();
  throw new InvalidArgumentError("Not a time; examples: 30d, 2027-01-31, 2027-01-31T18:00:00Z, never.");
}

/** Adds `a.b=value` to `before`. The value is parsed as JSON, or else taken as a string. */
export function setting(text: string, before: Body = {}): Body {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Not a setting; example: queue.max=500.");
  return withSetting(before, text.slice(0, at).split("."), jsonOr(text.slice(at + 1)));
}

function withSetting(into: Body, [name = "", ...inside]: string[], value: unknown): Body {
  const before = Object.hasOwn(into, name) ? into[name] : undefined;
  const after = inside.length === 0 ? value : withSetting(isThing(before) ? before : {}, inside, value);
  // A computed name in an object literal sets an own property, even for `__proto__`.
  return { ...into, [name]: after };
}

/** Merges flags over the contents of the file, recursively. */
export function merged(under: Body, over: Body): Body {
  const both = Object.entries(over).map(([name, value]): [string, unknown] => {
    const before = Object.hasOwn(under, name) ? under[name] : undefined;
    return [name, isThing(before) && isThing(value) ? merged(before, value) : value];
  });
  return { ...under, ...Object.fromEntries(both) };
}

/** Reads the JSON object in a file, or from standard input for `-`. */
export async function fileBody(name: string | undefined): Promise<Body> {
  if (name === undefined) return {};
  const from = name === "-" ? "standard input" : name;
  const text = await readText(name, from);
  if (text.length > FILE_LENGTH_MAX) throw usageFailure(`${from} is longer than ${FILE_LENGTH_MAX} characters.`);
  const body = jsonOr(text);
  if (!isThing(body)) throw usageFailure(`${from} holds no JSON object.`);
  return body;
}

async function readText(name: string, from: string): Promise<string> {
  try {
    return name === "-" ? await textOf(process.stdin) : await readFile(name, "utf8");
  } catch (error) {
    throw usageFailure(`${from} cannot be read (${messageOf(error)}).`);
  }
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
