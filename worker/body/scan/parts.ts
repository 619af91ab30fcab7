/** The parts of a form as they pass: those that rules name, or that are kept, are gathered, all are counted. Pure. */
import { PARTS_MAX, tooManyParts } from "../form.ts";
import type { Refusal } from "../../refusal.ts";
import { charactersOf, LongText, type Rule } from "../../services/rules.ts";
import { Gathered, Verdict } from "./verdict.ts";

/** Of a text that is kept; of a longer one only its length is. */
const KEPT_UNITS_MAX = 1024;

/** The part that is open. */
interface Part {
  rules: Rule[];
  /** Where its text is kept. */
  kept: unknown[] | null;
  file: boolean;
  bytes: number;
  text: Gathered;
  decoder: TextDecoder;
}

export class Parts {
  /** Texts by the names that were to be kept, in their order. */
  readonly kept: Record<string, unknown[]>;
  readonly #verdict: Verdict;
  readonly #rules = new Map<string, Rule[]>();
  #count = 0;
  #open: Part | null = null;
  #tooMany: Refusal | null = null;

  constructor(rules: Rule[], keep: string[]) {
    this.kept = Object.fromEntries(keep.map((name) => [name, []]));
    this.#verdict = new Verdict(rules, true);
    for (const rule of rules) this.#rules.set(rule.name, [...(this.#rules.get(rule.name) ?? []), rule]);
  }

  get failed(): boolean {
    return this.#tooMany !== null || this.#verdict.broken;
  }

  begin(name: string, file: boolean): void {
    this.#count += 1;
    if (this.#count > PARTS_MAX) this.#tooMany ??= tooManyParts(name);
    const rules = this.#rules.get(name) ?? [];
    const kept = !file && Object.hasOwn(this.kept, name) ? (this.kept[name] ?? null) : null;
    if (rules.length === 0 && kept === null) return;
    const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
    this.#open = { rules, kept, file, bytes: 0, text: new Gathered(), decoder };
  }

  add(bytes: Uint8Array): void {
    if (this.#open === null) return;
    this.#open.bytes += bytes.byteLength;
    if (!this.#open.file) this.#open.text.add(this.#open.decoder.decode(bytes, { stream: true }));
  }

  end(): void {
    if (this.#open === null) return;
    const { rules, kept, file, bytes, text, decoder } = this.#open;
    this.#open = null;
    text.add(decoder.decode());
    kept?.push(shortened(text.value()));
    // Of a file only counts whether anything is in it.
    this.#verdict.judge(rules, file ? new Uint8Array(Math.min(bytes, 1)) : text.value());
  }

  refusal(): Refusal | null {
    return this.#tooMany ?? this.#verdict.refusal();
  }
}

/** There may be as many as a form has parts. */
function shortened(text: string | LongText): string | LongText {
  if (text instanceof LongText) return new LongText("", text.characters);
  return text.length <= KEPT_UNITS_MAX ? text : new LongText("", charactersOf(text));
}
