/** Streaming scan of `application/x-www-form-urlencoded`. */
import { concat } from "../bytes.ts";
import { malformedForm } from "../form.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { Parts } from "./parts.ts";

const AMPERSAND = 0x26;
const EQUALS = 0x3d;
const PERCENT = 0x25;
const PLUS = 0x2b;
const SPACE = 0x20;
/** Longer than any name in a rule: 200 characters of up to 4 bytes. */
const NAME_BYTES_MAX = 200 * 4;
const NOTHING = new Uint8Array();

export class UrlencodedScan {
  readonly #parts: Parts;
  readonly #contentType: string;
  /** The decoded name, cut off where no rule can match it any more; null once the value has begun. */
  #name: Uint8Array | null = NOTHING;
  /** An escape cut off at the end of a chunk. */
  #rest: Uint8Array = NOTHING;

  constructor(rules: Rule[], keep: string[], contentType: string) {
    this.#parts = new Parts(rules, keep);
    this.#contentType = contentType;
  }

  get kept(): Record<string, unknown> {
    return this.#parts.kept;
  }

  get failed(): boolean {
    return this.#parts.failed;
  }

  push(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength;) {
      const end = until(bytes, AMPERSAND, at);
      const pair = bytes.subarray(at, end);
      if (this.#name === null) this.#value(pair);
      else {
        const equals = pair.indexOf(EQUALS);
        this.#nameOn(equals < 0 ? pair : pair.subarray(0, equals), this.#name);
        if (equals >= 0) {
          this.#begin();
          this.#value(pair.subarray(equals + 1));
        }
      }
      if (end < bytes.byteLength) this.#endPair();
      at = end + 1;
    }
    return Promise.resolve();
  }

  async end(): Promise<Refusal | null> {
    this.#endPair();
    try {
      // The platform checks the content type's parameters, as it does for buffered forms.
      await new Response("", { headers: { "content-type": this.#contentType } }).formData();
    } catch {
      return malformedForm();
    }
    return this.#parts.refusal();
  }

  #nameOn(escaped: Uint8Array, name: Uint8Array): void {
    this.#name = concat([name, this.#plain(escaped)]).slice(0, NAME_BYTES_MAX + 1);
  }

  #begin(): void {
    const name = concat([this.#name ?? NOTHING, this.#lastPlain()]);
    this.#name = null;
    this.#parts.begin(new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(name), false);
  }

  #value(escaped: Uint8Array): void {
    this.#parts.add(this.#plain(escaped));
  }

  #endPair(): void {
    const isEmpty = this.#name?.byteLength === 0 && this.#rest.byteLength === 0;
    if (!isEmpty) {
      if (this.#name !== null) this.#begin();
      this.#parts.add(this.#lastPlain());
      this.#parts.end();
    }
    this.#name = NOTHING;
  }

  /** Decodes what follows; an escape that is cut off is kept for the next call. */
  #plain(escaped: Uint8Array): Uint8Array {
    const [plain, rest] = unescape(this.#rest.byteLength === 0 ? escaped : concat([this.#rest, escaped]), false);
    this.#rest = rest;
    return plain;
  }

  #lastPlain(): Uint8Array {
    const [plain] = unescape(this.#rest, true);
    this.#rest = NOTHING;
    return plain;
  }
}

function until(bytes: Uint8Array, byte: number, from: number): number {
  const found = bytes.indexOf(byte, from);
  return found < 0 ? bytes.byteLength : found;
}

/** Returns the decoded bytes, and an escape that may be cut off at the end. */
function unescape(bytes: Uint8Array, whole: boolean): [plain: Uint8Array, rest: Uint8Array] {
  const plain = new Uint8Array(bytes.byteLength);
  let length = 0;
  for (let at = 0; at < bytes.byteLength; at++) {
    const byte = bytes[at] ?? 0;
    if (byte === PERCENT) {
      if (!whole && at + 2 >= bytes.byteLength) return [plain.subarray(0, length), bytes.slice(at)];
      // As the platform decodes them: of a malformed escape only its hex digits count.
      const digits = /^[0-9a-f]{0,2}/i.exec(String.fromCharCode(bytes[at + 1] ?? 0, bytes[at + 2] ?? 0))?.[0] ?? "";
      if (digits !== "") plain[length++] = Number.parseInt(digits, 16);
      at += digits.length;
      continue;
    }
    plain[length++] = byte === PLUS ? SPACE : byte;
  }
  return [plain.subarray(0, length), NOTHING];
}
