/** What rules say of the values that pass, and the text of a value as far as rules ask about it. Pure. */
import type { Refusal } from "../../refusal.ts";
import { charactersOf, LongText, problem, type Rule, ruleRefusal } from "../../services/rules.ts";

/** Units of a text that are kept: one that is no longer is judged as it is. */
const KEPT_UNITS_MAX = 64 * 1024;

export class Verdict {
  readonly #rules: Rule[];
  readonly #form: boolean;
  /** First problem of each rule, by its place. */
  readonly #problems = new Map<Rule, string>();

  constructor(rules: Rule[], form: boolean) {
    this.#rules = rules;
    this.#form = form;
  }

  get broken(): boolean {
    return this.#problems.size > 0;
  }

  judge(rules: readonly Rule[], value: unknown): void {
    for (const rule of rules) {
      const detail = this.#problems.has(rule) ? null : problem(rule, value, this.#form);
      if (detail !== null) this.#problems.set(rule, detail);
    }
  }

  /** Of the first rule that is broken, in the rules' order. */
  refusal(): Refusal | null {
    const rule = this.#rules.find((each) => this.#problems.has(each));
    return rule === undefined ? null : ruleRefusal(rule, this.#problems.get(rule) ?? "");
  }
}

/** Gathers a text piece by piece; no piece ends within a surrogate pair. */
export class Gathered {
  #whole = "";
  /** From the first character that is no white space. */
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
