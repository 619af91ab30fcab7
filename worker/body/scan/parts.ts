/** Streaming scan of a form's parts: collects those that a rule names or that are kept, and counts them all. Pure. */
import { PARTS_MAX, tooManyParts } from "../form.ts";
import type { Refusal } from "../../refusal.ts";
import { charactersOf, LongText, type Rule } from "../../services/rules.ts";
import { Gathered, Verdict } from "./verdict.ts";

/** Longest text that is kept, in UTF-16 units; of a longer one only its length. */
const KEPT_UNITS_MAX = 1024;

/** The part being read. */
interface Part {
  rules: Rule[];
  /** The list that its text is added to. */
  kept: unknown[] | null;
  file: boolean;
  bytes: number;
  text: Gathered;
  decoder: TextDecoder;
}

export class Parts {
  /** Texts by name, in order of arrival. */
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
    // For a file, rules only care whether it is empty.
    this.#verdict.judge(rules, file ? new Uint8Array(Math.min(bytes, 1)) : text.value());
  }

  refusal(): Refusal | null {
    return this.#tooMany ?? this.#verdict.refusal();
  }
}

/** Limits each text, because there may be as many as a form has parts. */
function shortened(text: string | LongText): string | LongText {
  if (text instanceof LongText) return new LongText("", text.characters);
  return text.length <= KEPT_UNITS_MAX ? text : new LongText("", charactersOf(text));
}
