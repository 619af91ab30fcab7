/**
 * Checks body fields against a service's `bounds` and `forbid`. Pure.
 *
 * A bound limits a number's value or a text's length in characters. Names may be dotted paths. `forbid` names a field;
 * with a trailing `*`, an object and everything in it; with `:url`, a field that may not hold a URL (other than
 * `data:`).
 */
import type { Fields } from "../body/fields.ts";
import { type Detail, detail } from "../details.ts";
import { type Refusal, refuse } from "../refusal.ts";
import type { Service } from "./service.ts";

/** Fields that are texts in the APIs we know; a number is of the wrong type. */
const TEXTS = new Set(["prompt", "negative_prompt", "text", "tts_text", "prompt_text", "instruct_text", "input"]);

/** Fields that are numbers there; a text is of the wrong type, except in a form, where all values are texts. */
const NUMBERS = new Set(["width", "height", "steps", "batch_size", "n_iter"]);

/** One prohibition or bound. */
export interface Rule {
  /** Name of the field, as the refusal gives it. */
  name: string;
  /** Forbidden if present, forbidden unless empty, forbidden by URL, or bounded. */
  kind: "given" | "whole" | "url" | "bound";
  /** Largest number or longest text; only for bounds. */
  most: number;
}

/** The part of a very long text that rules need. */
export class LongText {
  /** Tens of thousands of UTF-16 units, from the first character that is not white space. */
  readonly start: string;
  readonly characters: number;

  constructor(start: string, characters: number) {
    this.start = start;
    this.characters = characters;
  }
}

/** The rules in the order in which they are checked. */
export function rulesOf({ bounds, forbid }: Pick<Service, "bounds" | "forbid">): Rule[] {
  const forbidden = forbid.map((rule): Rule => {
    const name = rule.replace(/(\*|:url)$/, "");
    return { name, kind: rule.endsWith(":url") ? "url" : rule.endsWith("*") ? "whole" : "given", most: 0 };
  });
  return [...forbidden, ...Object.entries(bounds).map(([name, most]): Rule => ({ name, kind: "bound", most }))];
}

/** Returns the refusal for the first broken rule, or null when none is broken. */
export function fieldRefusal(fields: Fields, config: Pick<Service, "bounds" | "forbid">): Refusal | null {
  for (const rule of rulesOf(config)) {
    for (const value of valuesOf(fields, rule.name)) {
      const found = problem(rule, value, fields.kind === "form");
      if (found !== null) return ruleRefusal(rule, found);
    }
  }
  return null;
}

export function ruleRefusal(rule: Rule, facts: Detail): Refusal {
  return refuse("invalid_field", { param: rule.name, facts });
}

/** How a value breaks the rule, or null. Objects and arrays count as empty or not; `url` rules look into arrays. */
export function problem(rule: Rule, value: unknown, form: boolean): Detail | null {
  if (rule.kind === "bound") return boundProblem(rule.name, value, rule.most, form);
  if (rule.kind === "url") return holdsUrl(value) ? detail("forbidden_url") : null;
  return isAbsent(value, rule.kind === "whole") ? null : detail("forbidden");
}

/** Every value of a name: at most one in JSON, one per part of that name in a form. */
export function valuesOf(fields: Fields, name: string): unknown[] {
  if (fields.kind === "form") return fields.parts.filter((part) => part.name === name).map((part) => part.value);
  let value: unknown = fields.value;
  for (const part of name.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return [];
    value = (value as Record<string, unknown>)[part];
  }
  return [value];
}

/** Clients send empty members for what they do not use: null and, for `*` rules, an empty object count as absent. */
function isAbsent(value: unknown, whole: boolean): boolean {
  if (value instanceof LongText) return false;
  return value === null || (whole && typeof value === "object" && Object.keys(value).length === 0);
}

/** The start of a long text is enough to see a URL's scheme. */
function holdsUrl(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsUrl);
  const text = value instanceof LongText ? value.start : value;
  return typeof text === "string" && /^\s*[a-z][a-z0-9+.-]*:/i.test(text) && !/^\s*data:/i.test(text);
}

function boundProblem(name: string, value: unknown, most: number, form: boolean): Detail | null {
  if (value === null) return null;
  if (typeof value === "number") {
    if (TEXTS.has(name)) return detail("string");
    return value <= most && Number.isFinite(value) ? null : detail("at_most", { max: most });
  }
  if (typeof value !== "string" && !(value instanceof LongText))
    return TEXTS.has(name) ? detail("string") : detail("number_or_string");
  // Many servers accept "4096" as a number, so outside forms it is of the wrong type.
  if (NUMBERS.has(name) || (!TEXTS.has(name) && looksLikeNumber(value))) {
    if (!form) return detail("number");
    return typeof value === "string" && Number(value) <= most ? null : detail("at_most", { max: most });
  }
  const length = typeof value === "string" ? charactersOf(value) : value.characters;
  return length <= most ? null : detail("characters_at_most", { max: most });
}

/** Number of code points: a surrogate pair counts once. */
export function charactersOf(text: string): number {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

/** Python also accepts `4_096`, the digits of every script, `inf` and `nan`. */
function looksLikeNumber(value: string | LongText): boolean {
  const plain = (typeof value === "string" ? value : value.start)
    .normalize("NFKC")
    .replace(/\p{Nd}/gu, "0")
    .replaceAll("_", "")
    .trim();
  // The end of a long text is not known, so it counts as a number if it starts with nothing but a number's characters.
  if (value instanceof LongText) return /^[+-]?\.?0[0a-fox.+-]*$/i.test(plain);
  return /^[+-]?(inf(inity)?|nan)$/i.test(plain) || (plain !== "" && !Number.isNaN(Number(plain)));
}
