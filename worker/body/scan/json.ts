/** Streaming JSON scan: finds the values at the names that rules mention. Every occurrence of a name counts. Pure. */
import { none } from "stream-chain/defs.js";
import { jsonParser, type Token } from "stream-json/core/parser.js";
import { malformedJson } from "../fields.ts";
import { detail } from "../../details.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { Gathered, Verdict } from "./verdict.ts";

/** Deeper than what servers' own parsers accept. */
const DEPTH_MAX = 1024;
/** Longer than any name in a rule. */
const KEY_UNITS_MAX = 200;
/** Longest number in UTF-16 units; a longer one counts as too large. */
const NUMBER_UNITS_MAX = 1024;

/** A node in the tree of rule names: a place that rules mention, or the parent of one. */
interface Branch {
  rules: Rule[];
  below: Map<string, Branch>;
  /** Name under which the plain value of a top-level member is kept. */
  keep: string | null;
}

/** An open object or array. */
interface Frame {
  list: boolean;
  branch: Branch | null;
  /** Rules about URLs that apply to the strings in this array and in arrays nested in it. */
  urls: Rule[];
  /** Name of the member whose value comes next. */
  key: string;
  /** Members so far. */
  members: number;
}

export class JsonScan {
  readonly kept: Record<string, unknown> = {};
  readonly #verdict: Verdict;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  readonly #parse = jsonParser({ packValues: false });
  readonly #root: Branch = branch();
  readonly #open: Frame[] = [];
  /** The tree node of the current value, and the URL rules of the array it is in. */
  #at: Branch | null = this.#root;
  #urls: Rule[] = [];
  /** The key, number or string being read; null when no rule needs it. */
  #key: string | null = null;
  #number: string | null = null;
  #text: Gathered | null = null;
  #malformed: Refusal | null = null;

  constructor(rules: Rule[], keep: string[]) {
    this.#verdict = new Verdict(rules, false);
    for (const rule of rules) grow(this.#root, rule.name.split(".")).rules.push(rule);
    for (const name of keep) grow(this.#root, [name]).keep = name;
  }

  get failed(): boolean {
    return this.#malformed !== null || this.#verdict.broken;
  }

  push(bytes: Uint8Array): Promise<void> {
    this.#read(() => this.#decoder.decode(bytes, { stream: true }));
    return Promise.resolve();
  }

  end(): Promise<Refusal | null> {
    this.#read(() => this.#decoder.decode());
    this.#read(() => none);
    return Promise.resolve(this.#malformed ?? this.#verdict.refusal());
  }

  #read(decode: () => string | typeof none): void {
    if (this.#malformed !== null) return;
    let text: string | typeof none;
    try {
      text = decode();
    } catch {
      this.#malformed = malformedJson(detail("not_utf8"));
      return;
    }
    for (const token of this.#tokensOf(text)) {
      if (this.#malformed === null) this.#take(token);
    }
  }

  #tokensOf(text: string | typeof none): Token[] {
    try {
      // `none` ends the text, although the declared type does not allow it.
      const read = this.#parse(text as string);
      return read === none ? [] : read.values;
    } catch (error) {
      this.#malformed = malformedJson(
        detail("text", { text: (error as Error).message.replace(/^Parser (cannot parse input: )?/, "") }),
      );
      return [];
    }
  }

  #take(token: Token): void {
    switch (token.name) {
      case "startObject":
      case "startArray":
        return this.#enter(token.name === "startArray");
      case "endObject":
      case "endArray":
        return this.#leave();
      case "startKey":
        this.#key = "";
        return;
      case "endKey":
        return this.#named(this.#key ?? "");
      case "startNumber":
        this.#place();
        this.#number = this.#at === null ? null : "";
        return;
      case "numberChunk":
        if (this.#number !== null && this.#number.length <= NUMBER_UNITS_MAX) this.#number += token.value;
        return;
      case "endNumber":
        return this.#plain(numberOf(this.#number ?? ""));
      case "startString":
        this.#place();
        this.#text = this.#at !== null || this.#urls.length > 0 ? new Gathered() : null;
        return;
      case "stringChunk":
        if (this.#key !== null) this.#key = (this.#key + token.value).slice(0, KEY_UNITS_MAX + 1);
        else this.#text?.add(token.value);
        return;
      case "endString":
        if (this.#text !== null) this.#plain(this.#text.value());
        this.#text = null;
        return;
      case "trueValue":
      case "falseValue":
      case "nullValue":
        this.#place();
        return this.#plain(token.value);
      default:
        throw new Error(`unexpected ${token.name}`);
    }
  }

  /** Called when a value begins: finds the rules that apply to it. */
  #place(): void {
    const frame = this.#open.at(-1);
    if (frame === undefined) return;
    const name = frame.list ? String(frame.members) : frame.key;
    this.#at = frame.branch?.below.get(name) ?? null;
    this.#urls = frame.urls;
    frame.members += 1;
  }

  #named(key: string): void {
    const frame = this.#open.at(-1);
    if (frame !== undefined) frame.key = key;
    this.#key = null;
  }

  #plain(value: unknown): void {
    if (this.#at !== null) {
      this.#verdict.judge(this.#at.rules, value);
      if (this.#at.keep !== null) this.kept[this.#at.keep] = value;
    }
    if (this.#urls.length > 0) this.#verdict.judge(this.#urls, value);
  }

  #enter(list: boolean): void {
    this.#place();
    if (this.#open.length === DEPTH_MAX) this.#malformed = malformedJson(detail("too_deep", { max: DEPTH_MAX }));
    const own = this.#at?.rules.filter((rule) => rule.kind === "url") ?? [];
    const urls = !list ? [] : own.length === 0 ? this.#urls : [...this.#urls, ...own];
    this.#open.push({ list, branch: this.#at, urls, key: "", members: 0 });
  }

  #leave(): void {
    const frame = this.#open.pop();
    if (frame === undefined || frame.branch === null) return;
    const { list, branch: at, members } = frame;
    // The members were judged as they passed; only emptiness matters here.
    const stand = list ? (members > 0 ? [null] : []) : members > 0 ? { member: null } : {};
    this.#verdict.judge(at.rules, stand);
    // A rule may name an array's `length`.
    if (list) this.#verdict.judge(at.below.get("length")?.rules ?? [], members);
  }
}

function branch(): Branch {
  return { rules: [], below: new Map(), keep: null };
}

function grow(from: Branch, path: string[]): Branch {
  let at = from;
  for (const name of path) {
    const next = at.below.get(name) ?? branch();
    at.below.set(name, next);
    at = next;
  }
  return at;
}

function numberOf(text: string): number {
  return text.length > NUMBER_UNITS_MAX ? Number.POSITIVE_INFINITY : Number(text);
}
