/**
 * A service's `bounds` and `forbid` against the fields of a body. Pure.
 *
 * A bound holds for a number (its value) or a text (its characters). Names may be dotted paths. `forbid` names a field,
 * or with a trailing `*` an object with whatever is in it, or with `:url` a field that may not point elsewhere.
 */
import type { Fields } from "../body/fields.ts";
import { type Refusal, refuse } from "../refusal.ts";
import type { Service } from "./service.ts";

/** Fields that are texts in the APIs we know: a number there is of the wrong type. */
const TEXTS = new Set(["prompt", "negative_prompt", "text", "tts_text", "prompt_text", "instruct_text", "input"]);

/** Fields that are numbers there: a text is of the wrong type, but in a form, where all values are texts. */
const NUMBERS = new Set(["width", "height", "steps", "batch_size", "n_iter"]);

/** One prohibition or bound. */
export interface Rule {
  /** The field's, as the refusal names it. */
  name: string;
  /** Forbidden at all, forbidden with anything in it, forbidden by URL, or bounded. */
  kind: "given" | "whole" | "url" | "bound";
  /** Largest number or longest text; of bounds alone. */
  most: number;
}

/** A text too long to keep, as far as rules ask about it. */
export class LongText {
  /** From its first character that is no white space, tens of thousands of units. */
  readonly start: string;
  readonly characters: number;

  constructor(start: string, characters: number) {
    this.start = start;
    this.characters = characters;
  }
}

/** In the order in which they are checked. */
export function rulesOf({ bounds, forbid }: Pick<Service, "bounds" | "forbid">): Rule[] {
  const forbidden = forbid.map((rule): Rule => {
    const name = rule.replace(/(\*|:url)$/, "");
    return { name, kind: rule.endsWith(":url") ? "url" : rule.endsWith("*") ? "whole" : "given", most: 0 };
  });
  return [...forbidden, ...Object.entries(bounds).map(([name, most]): Rule => ({ name, kind: "bound", most }))];
}

/** The first rule that a field breaks, as the refusal; null when all are kept. */
export function fieldRefusal(fields: Fields, config: Pick<Service, "bounds" | "forbid">): Refusal | null {
  for (const rule of rulesOf(config)) {
    for (const value of valuesOf(fields, rule.name)) {
      const detail = problem(rule, value, fields.kind === "form");
      if (detail !== null) return ruleRefusal(rule, detail);
    }
  }
  return null;
}

export function ruleRefusal(rule: Rule, detail: string): Refusal {
  return refuse("invalid_field", { param: rule.name, facts: { detail } });
}

/** How a value of the rule's field breaks it, or null. Of an object or a list only counts whether anything is in it. */
export function problem(rule: Rule, value: unknown, form: boolean): string | null {
  if (rule.kind === "bound") return boundProblem(rule.name, value, rule.most, form);
  if (rule.kind === "url") return holdsUrl(value) ? "may not be given by URL" : null;
  return isAbsent(value, rule.kind === "whole") ? null : "may not be given";
}

/** Every value that a name has: one in JSON, as many as parts of that name in a form. */
export function valuesOf(fields: Fields, name: string): unknown[] {
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
  if (value instanceof LongText) return false;
  return value === null || (whole && typeof value === "object" && Object.keys(value).length === 0);
}

/** No scheme is so long that the start of a long text would not show it. */
function holdsUrl(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsUrl);
  const text = value instanceof LongText ? value.start : value;
  return typeof text === "string" && /^\s*[a-z][a-z0-9+.-]*:/i.test(text) && !/^\s*data:/i.test(text);
}

function boundProblem(name: string, value: unknown, most: number, form: boolean): string | null {
  if (value === null) return null;
  if (typeof value === "number") {
    if (TEXTS.has(name)) return "must be a text";
    return value <= most && Number.isFinite(value) ? null : `must be at most ${most}`;
  }
  if (typeof value !== "string" && !(value instanceof LongText))
    return TEXTS.has(name) ? "must be a text" : "must be a number or a text";
  // "4096" passes for a number at many servers: outside forms it is of the wrong type.
  if (NUMBERS.has(name) || (!TEXTS.has(name) && looksLikeNumber(value))) {
    if (!form) return "must be a number";
    return typeof value === "string" && Number(value) <= most ? null : `must be at most ${most}`;
  }
  const length = typeof value === "string" ? charactersOf(value) : value.characters;
  return length <= most ? null : `must have at most ${most} characters`;
}

/** Characters, each counted once however many units it takes. */
export function charactersOf(text: string): number {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

/** Python also takes `4_096`, the digits of every script, `inf` and `nan`. */
function looksLikeNumber(value: string | LongText): boolean {
  const plain = (typeof value === "string" ? value : value.start)
    .normalize("NFKC")
    .replace(/\p{Nd}/gu, "0")
    .replaceAll("_", "")
    .trim();
  // Of a long one the end is not known: what starts with nothing else than a number's characters passes for one.
  if (value instanceof LongText) return /^[+-]?\.?0[0a-fox.+-]*$/i.test(plain);
  return /^[+-]?(inf(inity)?|nan)$/i.test(plain) || (plain !== "" && !Number.isNaN(Number(plain)));
}
