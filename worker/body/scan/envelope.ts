/**
 * Streaming scan of a JSON object with one member that may be large: finds where that member's value is, and keeps
 * everything else. Pure. The value's JSON is not checked here, only where it ends; the rest is.
 */
import { detail } from "../../details.ts";
import { malformedJson } from "../fields.ts";
import { invalid, type Refusal } from "../../refusal.ts";
import type { Scan } from "./scan.ts";

/** Everything but the value, in bytes. */
export const ENVELOPE_BYTES_MAX = 64 * 1024;

const [QUOTE, BACKSLASH, COLON, COMMA] = [0x22, 0x5c, 0x3a, 0x2c];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [0x7b, 0x7d, 0x5b, 0x5d];
/** JSON's white space (RFC 8259, 2). */
const SPACES = [0x20, 0x09, 0x0a, 0x0d];
const NULL = new TextEncoder().encode("null");

export class EnvelopeScan implements Scan {
  readonly kept = {};
  readonly #member: string;
  readonly #rest = new Uint8Array(ENVELOPE_BYTES_MAX);
  #length = 0;
  #isTooLong = false;
  /** Bytes of the body so far. */
  #at = 0;
  #depth = 0;
  #isString = false;
  #isEscaped = false;
  /** Where in the rest the latest string at the top level begins, and ends. */
  #string = [0, 0];
  /** Where the value begins; null: we are not in it. */
  #from: number | null = null;
  #range: { offset: number; length: number } | null = null;
  #value: unknown = null;

  constructor(member: string) {
    this.#member = member;
  }

  get failed(): boolean {
    return this.#isTooLong;
  }

  /** The object, with null as the member's value. Known after `end` has returned null. */
  get value(): unknown {
    return this.#value;
  }

  /** Where in the body the value is, in bytes; null: there is no such member. Of several, the last one counts. */
  get range(): { offset: number; length: number } | null {
    return this.#range;
  }

  push(bytes: Uint8Array): Promise<void> {
    for (let i = 0; i < bytes.byteLength; i++, this.#at++) {
      // An image is one long string.
      if (this.#isString && this.#from !== null && !this.#isEscaped) {
        const plain = plainUntil(bytes, i) - i;
        i += plain;
        this.#at += plain;
        if (i === bytes.byteLength) break;
      }
      const byte = bytes[i] ?? 0;
      if (this.#isString) this.#inString(byte);
      else this.#outside(byte);
      if (this.#from === null) this.#keep(byte);
    }
    return Promise.resolve();
  }

  end(): Promise<Refusal | null> {
    if (this.#isTooLong)
      return Promise.resolve(
        invalid("body", "envelope_at_most", { member: this.#member, max_kib: ENVELOPE_BYTES_MAX / 1024 }),
      );
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(this.#kept());
      this.#value = JSON.parse(text);
      return Promise.resolve(null);
    } catch (error) {
      return Promise.resolve(malformedJson(detail("text", { text: (error as Error).message })));
    }
  }

  #inString(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) {
      this.#isString = false;
      if (this.#depth === 1 && this.#from === null) this.#string[1] = this.#length + 1;
    }
  }

  #outside(byte: number): void {
    const isTop = this.#depth === 1;
    if (this.#from === this.#at && SPACES.includes(byte)) this.#from++;
    if (isTop && this.#from !== null && (byte === COMMA || byte === CLOSE_OBJECT)) this.#endValue(this.#from);
    if (byte === QUOTE) {
      this.#isString = true;
      if (isTop && this.#from === null) this.#string[0] = this.#length;
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) this.#depth++;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) this.#depth--;
    else if (byte === COLON && isTop && this.#from === null && this.#isMember()) {
      this.#keep(byte);
      for (const each of NULL) this.#keep(each);
      this.#from = this.#at + 1;
    }
  }

  #isMember(): boolean {
    try {
      return JSON.parse(new TextDecoder().decode(this.#rest.subarray(...this.#string))) === this.#member;
    } catch {
      // Not a string: `end` refuses the whole.
      return false;
    }
  }

  #endValue(from: number): void {
    this.#range = { offset: from, length: this.#at - from };
    this.#from = null;
  }

  #keep(byte: number): void {
    if (this.#length < ENVELOPE_BYTES_MAX) this.#rest[this.#length++] = byte;
    else this.#isTooLong = true;
  }

  #kept(): Uint8Array {
    return this.#rest.subarray(0, this.#length);
  }
}

/** The index of the next quote or backslash, or the length. */
function plainUntil(bytes: Uint8Array, from: number): number {
  const quote = bytes.indexOf(QUOTE, from);
  const end = quote < 0 ? bytes.byteLength : quote;
  const backslash = bytes.subarray(from, end).indexOf(BACKSLASH);
  return backslash < 0 ? end : from + backslash;
}
