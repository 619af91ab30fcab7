/**
 * Streaming scan of `multipart/form-data`. Accepts only forms that the platform's own parser reads the same way: each
 * part's head is given to that parser, so that no name is read differently here and there.
 */
import { concat } from "../bytes.ts";
import { boundaryOf, CR, headEnd, isPlainHead, LF, malformedForm } from "../form.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { Parts } from "./parts.ts";

const WHITE = new Set([CR, LF, 0x20, 0x09]);
/** Maximum size of one part's head. */
const HEAD_BYTES_MAX = 16 * 1024;
const BOUNDARY_LENGTH_MAX = 200;
const encoder = new TextEncoder();
const CRLF = encoder.encode("\r\n");
const END = encoder.encode("--\r\n");

/** Parser state: before the first boundary, after a boundary, in a part's head or content, after the last boundary. */
type Place = "start" | "boundary" | "head" | "content" | "over";

export class MultipartScan {
  readonly #parts: Parts;
  readonly #contentType: string;
  /** Starts with the line feed. The carriage return before it may be missing, so it is not included. */
  readonly #delimiter: Uint8Array;
  #place: Place = "start";
  #malformed = false;
  /** Bytes that cannot be classified yet. */
  #rest: Uint8Array = new Uint8Array();

  constructor(rules: Rule[], keep: string[], contentType: string) {
    this.#parts = new Parts(rules, keep);
    this.#contentType = contentType;
    const boundary = boundaryOf(contentType);
    this.#malformed = boundary === "" || boundary.length > BOUNDARY_LENGTH_MAX;
    this.#delimiter = encoder.encode(`\n--${boundary}`);
  }

  get kept(): Record<string, unknown> {
    return this.#parts.kept;
  }

  get failed(): boolean {
    return this.#malformed || this.#parts.failed;
  }

  async push(bytes: Uint8Array): Promise<void> {
    let rest: Uint8Array = this.#rest.byteLength === 0 ? bytes : concat([this.#rest, bytes]);
    while (!this.#malformed) {
      const used = await this.#step(rest);
      if (used === null) break;
      rest = rest.subarray(used);
    }
    // A copy, because the chunk it belongs to may be large.
    this.#rest = this.#malformed ? new Uint8Array() : rest.slice();
  }

  async end(): Promise<Refusal | null> {
    if (this.#malformed || this.#place !== "over") return malformedForm();
    // Parses an empty form, to check that the platform finds the same boundary.
    const empty = await this.#parsed(new Uint8Array(), false);
    return empty === null ? malformedForm() : this.#parts.refusal();
  }

  /** Consumes what can be classified. Returns the number of bytes, or null when more are needed. */
  async #step(bytes: Uint8Array): Promise<number | null> {
    switch (this.#place) {
      case "start":
        return this.#start(bytes);
      case "boundary":
        return this.#boundary(bytes);
      case "head":
        return this.#head(bytes);
      case "content":
        return this.#content(bytes);
      case "over":
        return this.#over(bytes);
    }
  }

  /** Nothing may precede the first boundary: servers disagree on how to read it. */
  #start(bytes: Uint8Array): number | null {
    const first = this.#delimiter.subarray(1);
    if (bytes.byteLength < first.byteLength) return null;
    if (!startsWith(bytes, first, 0)) return this.#fail();
    this.#place = "boundary";
    return first.byteLength;
  }

  #boundary(bytes: Uint8Array): number | null {
    if (bytes.byteLength < 2) return null;
    const [first, second] = bytes;
    const next = first === LF ? 1 : first === CR && second === LF ? 2 : 0;
    const last = first === 0x2d && second === 0x2d;
    if (next === 0 && !last) return this.#fail();
    this.#place = last ? "over" : "head";
    return last ? 2 : next;
  }

  async #head(bytes: Uint8Array): Promise<number | null> {
    const end = headEnd(bytes);
    if (end === null) return bytes.byteLength > HEAD_BYTES_MAX ? this.#fail() : null;
    if (end > HEAD_BYTES_MAX || !isPlainHead(bytes.subarray(0, end))) return this.#fail();
    const parsed = await this.#parsed(bytes.subarray(0, end), true);
    const [entry] = parsed ?? [];
    if (entry === undefined) return this.#fail();
    this.#parts.begin(entry[0], typeof entry[1] !== "string");
    this.#place = "content";
    return end;
  }

  #content(bytes: Uint8Array): number | null {
    const { byteLength: length } = this.#delimiter;
    const found = indexOf(bytes, this.#delimiter);
    if (found < 0) {
      // The end of the chunk may be the start of a delimiter, with a carriage return before it.
      const sure = bytes.byteLength - length;
      if (sure <= 0) return null;
      this.#parts.add(bytes.subarray(0, sure));
      return sure;
    }
    this.#parts.add(bytes.subarray(0, bytes[found - 1] === CR ? found - 1 : found));
    this.#parts.end();
    this.#place = "boundary";
    return found + length;
  }

  /** Only white space may follow the last boundary. */
  #over(bytes: Uint8Array): number | null {
    if (!bytes.every((byte) => WHITE.has(byte))) return this.#fail();
    return bytes.byteLength === 0 ? null : bytes.byteLength;
  }

  #fail(): null {
    this.#malformed = true;
    return null;
  }

  /** How the platform parses a form with only this head, or an empty form. */
  async #parsed(head: Uint8Array, part: boolean): Promise<[string, unknown][] | null> {
    const boundary = this.#delimiter.subarray(1);
    const body = concat([...(part ? [boundary, CRLF, head, CRLF] : []), boundary, END]);
    try {
      const headers = { "content-type": this.#contentType };
      return [...(await new Response(body, { headers }).formData())];
    } catch {
      return null;
    }
  }
}

function indexOf(bytes: Uint8Array, delimiter: Uint8Array): number {
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (startsWith(bytes, delimiter, at)) return at;
  }
  return -1;
}

function startsWith(bytes: Uint8Array, start: Uint8Array, from: number): boolean {
  for (let i = 0; i < start.byteLength; i++) {
    if (bytes[from + i] !== start[i]) return false;
  }
  return true;
}

/** Why a buffered form is malformed or ambiguous; null when it is neither. */
export async function formRefusal(bytes: Uint8Array<ArrayBuffer>, contentType: string): Promise<Refusal | null> {
  const scan = new MultipartScan([], [], contentType);
  await scan.push(bytes);
  return scan.end();
}
