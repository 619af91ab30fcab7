/** Applies rules to the values of a scan, and collects the text of a value as far as rules need it. Pure. */
import type { Detail } from "../../details.ts";
import type { Refusal } from "../../refusal.ts";
import { charactersOf, LongText, problem, type Rule, ruleRefusal } from "../../services/rules.ts";

/** Longest text that is kept whole and judged as it is, in UTF-16 units. */
const KEPT_UNITS_MAX = 64 * 1024;

export class Verdict {
  readonly #rules: Rule[];
  readonly #form: boolean;
  /** The first problem found for each rule. */
  readonly #problems = new Map<Rule, Detail>();

  constructor(rules: Rule[], form: boolean) {
    this.#rules = rules;
    this.#form = form;
  }

  get broken(): boolean {
    return this.#problems.size > 0;
  }

  judge(rules: readonly Rule[], value: unknown): void {
    for (const rule of rules) {
      const found = this.#problems.has(rule) ? null : problem(rule, value, this.#form);
      if (found !== null) this.#problems.set(rule, found);
    }
  }

  /** The refusal for the first broken rule, in the order of the rules. */
  refusal(): Refusal | null {
    for (const rule of this.#rules) {
      const found = this.#problems.get(rule);
      if (found !== undefined) return ruleRefusal(rule, found);
    }
    return null;
  }
}

/** Collects a text piece by piece. No piece ends within a surrogate pair. */
export class Gathered {
  #whole = "";
  /** From the first character that is not white space. */
  #start = "";
  #units = 0;
  #characters = 0;

  add(piece: string): void {
    this.#units += piece.length;
    this.#characters += charactersOf(piece);
    this.#whole = kept(this.#whole, piece);
    this.#start = kept(this.#start, this.#start === "" ? piece.trimStart() : piece);
  }

  value(): string | LongText {
    if (this.#units <= KEPT_UNITS_MAX) return this.#whole;
    return new LongText(this.#start.replace(/[\ud800-\udbff]$/, ""), this.#characters);
  }
}

function kept(before: string, piece: string): string {
  return before.length >= KEPT_UNITS_MAX ? before : before + piece.slice(0, KEPT_UNITS_MAX - before.length);
}
