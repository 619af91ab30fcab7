/**
 * `multipart/form-data` as it passes. Reads a form as the platform's own parser reads a small one, or refuses it: the
 * heads of the parts are given to that parser, so that no name can mean one thing here and another there.
 */
import { concat } from "../bytes.ts";
import { boundaryOf, CR, headEnd, isPlainHead, LF, malformedForm } from "../form.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { Parts } from "./parts.ts";

const WHITE = new Set([CR, LF, 0x20, 0x09]);
/** Of one part. */
const HEAD_BYTES_MAX = 16 * 1024;
const BOUNDARY_LENGTH_MAX = 200;
const encoder = new TextEncoder();
const CRLF = encoder.encode("\r\n");
const END = encoder.encode("--\r\n");

/** Where in the form it is: before the first boundary, after any, in a part's head, in its content, after the last. */
type Place = "start" | "boundary" | "head" | "content" | "over";

export class MultipartScan {
  readonly #parts: Parts;
  readonly #contentType: string;
  /** With the line feed before it; without a carriage return, which may be missing. */
  readonly #delimiter: Uint8Array;
  #place: Place = "start";
  #malformed = false;
  /** Bytes that cannot be told yet. */
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
    // A copy: the piece that it is part of may be large.
    this.#rest = this.#malformed ? new Uint8Array() : rest.slice();
  }

  async end(): Promise<Refusal | null> {
    if (this.#malformed || this.#place !== "over") return malformedForm();
    // An empty form: whether the boundary is the one that the platform finds.
    const empty = await this.#parsed(new Uint8Array(), false);
    return empty === null ? malformedForm() : this.#parts.refusal();
  }

  /** Takes what it can tell; how many bytes that were, null when more have to come. */
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

  /** Nothing may stand before the first boundary: servers disagree on what it would be. */
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
      // The end may be the delimiter's beginning, with the carriage return before it.
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

  /** Nothing but white space may stand after the last boundary. */
  #over(bytes: Uint8Array): number | null {
    if (!bytes.every((byte) => WHITE.has(byte))) return this.#fail();
    return bytes.byteLength === 0 ? null : bytes.byteLength;
  }

  #fail(): null {
    this.#malformed = true;
    return null;
  }

  /** What the platform makes of a form that has this head alone, or of an empty one. */
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

/** Why a form that is there as a whole cannot be read, or could be read in two ways. */
export async function formRefusal(bytes: Uint8Array<ArrayBuffer>, contentType: string): Promise<Refusal | null> {
  const scan = new MultipartScan([], [], contentType);
  await scan.push(bytes);
  return scan.end();
}
