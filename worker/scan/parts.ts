/** The parts of a form as they pass: those that rules name are gathered, all are counted. Pure. */
import { PARTS_MAX, tooManyParts } from "../fields.ts";
import type { Refusal } from "../refusal.ts";
import type { Rule } from "../rules.ts";
import { Gathered, Verdict } from "./verdict.ts";

/** The part that is open. */
interface Part {
  rules: Rule[];
  file: boolean;
  bytes: number;
  text: Gathered;
  decoder: TextDecoder;
}

export class Parts {
  readonly #verdict: Verdict;
  readonly #rules = new Map<string, Rule[]>();
  #count = 0;
  #open: Part | null = null;
  #tooMany: Refusal | null = null;

  constructor(rules: Rule[]) {
    this.#verdict = new Verdict(rules, true);
    for (const rule of rules) this.#rules.set(rule.name, [...(this.#rules.get(rule.name) ?? []), rule]);
  }

  get failed(): boolean {
    return this.#tooMany !== null || this.#verdict.broken;
  }

  begin(name: string, file: boolean): void {
    this.#count += 1;
    if (this.#count > PARTS_MAX) this.#tooMany ??= tooManyParts(name);
    const rules = this.#rules.get(name);
    if (rules === undefined) return;
    const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
    this.#open = { rules, file, bytes: 0, text: new Gathered(), decoder };
  }

  add(bytes: Uint8Array): void {
    if (this.#open === null) return;
    this.#open.bytes += bytes.byteLength;
    if (!this.#open.file) this.#open.text.add(this.#open.decoder.decode(bytes, { stream: true }));
  }

  end(): void {
    if (this.#open === null) return;
    const { rules, file, bytes, text, decoder } = this.#open;
    this.#open = null;
    text.add(decoder.decode());
    // Of a file only counts whether anything is in it.
    this.#verdict.judge(rules, file ? new Uint8Array(Math.min(bytes, 1)) : text.value());
  }

  refusal(): Refusal | null {
    return this.#tooMany ?? this.#verdict.refusal();
  }
}
