/**
 * A service's `bounds` and `forbid` against the fields of a body. Pure.
 *
 * A bound holds for a number (its value) or a text (its characters). Names may be dotted paths. `forbid` names a field,
 * or with a trailing `*` an object with whatever is in it, or with `:url` a field that may not point elsewhere.
 */
import type { Fields } from "./ask.ts";
import { type Refusal, refuse } from "./refusal.ts";
import type { Service } from "./service.ts";

/** Fields that are texts in the APIs we know: a number there is of the wrong type. */
const TEXTS = new Set(["prompt", "negative_prompt", "text", "tts_text", "prompt_text", "instruct_text", "input"]);

/** Fields that are numbers there: a text is of the wrong type, but in a form, where all values are texts. */
const NUMBERS = new Set(["width", "height", "steps", "batch_size", "n_iter"]);

/** The first field that breaks a rule, or null. */
export function fieldRefusal(fields: Fields, { bounds, forbid }: Pick<Service, "bounds" | "forbid">): Refusal | null {
  for (const rule of forbid) {
    const name = rule.replace(/(\*|:url)$/, "");
    for (const value of valuesOf(fields, name)) {
      if (rule.endsWith(":url") ? !holdsUrl(value) : isAbsent(value, rule.endsWith("*"))) continue;
      const detail = rule.endsWith(":url") ? "may not be given by URL" : "may not be given";
      return refuse("invalid_field", { param: name, facts: { detail } });
    }
  }
  for (const [name, most] of Object.entries(bounds)) {
    for (const value of valuesOf(fields, name)) {
      const detail = boundProblem(name, value, most, fields.kind === "form");
      if (detail !== null) return refuse("invalid_field", { param: name, facts: { detail } });
    }
  }
  return null;
}

/** Every value that a name has: one in JSON, as many as parts of that name in a form. */
function valuesOf(fields: Fields, name: string): unknown[] {
  if (fields.kind === "form") return fields.parts.filter((part) => part.name === name).map((part) => part.value);
  let value: unknown = fields.value;
  for (const part of name.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return [];
    value = (value as Record<string, unknown>)[part];
  }
  return [value];
}

/** Clients send empty members for what they do not use: null says nothing, nor does an empty object. */
function isAbsent(value: unknown, whole: boolean): boolean {
  return value === null || (whole && typeof value === "object" && Object.keys(value).length === 0);
}

function holdsUrl(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsUrl);
  return typeof value === "string" && /^\s*[a-z][a-z0-9+.-]*:/i.test(value) && !/^\s*data:/i.test(value);
}

function boundProblem(name: string, value: unknown, most: number, form: boolean): string | null {
  if (value === null) return null;
  if (typeof value === "number") {
    if (TEXTS.has(name)) return "must be a text";
    return value <= most && Number.isFinite(value) ? null : `must be at most ${most}`;
  }
  if (typeof value !== "string") return TEXTS.has(name) ? "must be a text" : "must be a number or a text";
  // "4096" passes for a number at many servers: outside forms it is of the wrong type.
  if (NUMBERS.has(name) || (!TEXTS.has(name) && looksLikeNumber(value))) {
    if (!form) return "must be a number";
    return Number(value) <= most ? null : `must be at most ${most}`;
  }
  return value.length <= most || Array.from(value).length <= most ? null : `must have at most ${most} characters`;
}

/** Python also takes `4_096`, the digits of every script, `inf` and `nan`. */
function looksLikeNumber(text: string): boolean {
  const plain = text
    .normalize("NFKC")
    .replace(/\p{Nd}/gu, "0")
    .replaceAll("_", "")
    .trim();
  return /^[+-]?(inf(inity)?|nan)$/i.test(plain) || (plain !== "" && !Number.isNaN(Number(plain)));
}
