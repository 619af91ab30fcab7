/** Walks a file's structure while its bytes arrive in chunks: a generator says which bytes it needs next. Pure. */

import { crc32 } from "node:zlib";

/**
 * What a walk asks for: to read some bytes, to skip some, or to find the marker after entropy-coded data. `crc`: the
 * CRC-32 of the bytes before the skipped ones, to be continued over them.
 */
type Want = { take: number } | { skip: number; crc?: number } | "marker";
/**
 * What the walk gets. `at`: the offset after the requested bytes. `bytes`: the bytes read; for "marker", the marker's
 * second byte. `crc`: the CRC-32 up to `at`, if the walk asked for it.
 */
export type Walk = Generator<Want, void, { bytes: Uint8Array; at: number; crc: number }>;

export class Walker {
  readonly #walk: Walk;
  #want: Want | null = null;
  #seen: number[] = [];
  #skipped = 0;
  #crc = 0;
  #afterFf = false;
  #at = 0;

  constructor(walk: Walk) {
    this.#walk = walk;
    this.#next();
  }

  push(bytes: Uint8Array): void {
    for (let rest = bytes; rest.byteLength > 0 && this.#want !== null;) {
      const taken = this.#use(rest, this.#want);
      this.#at += taken;
      rest = rest.subarray(taken);
      while (this.#want !== null && this.#isMet(this.#want)) this.#next();
    }
  }

  /** Returns the number of bytes consumed. */
  #use(bytes: Uint8Array, want: Want): number {
    if (want === "marker") return this.#seek(bytes);
    if ("skip" in want) {
      const taken = Math.min(bytes.byteLength, want.skip - this.#skipped);
      this.#skipped += taken;
      if (want.crc !== undefined) this.#crc = crc32(bytes.subarray(0, taken), this.#crc);
      return taken;
    }
    const taken = bytes.subarray(0, want.take - this.#seen.length);
    this.#seen.push(...taken);
    return taken.byteLength;
  }

  /** Within entropy-coded data, FF 00 is an escaped data byte, and RST0 to RST7 are part of the data. */
  #seek(bytes: Uint8Array): number {
    for (let at = 0; at < bytes.byteLength;) {
      if (!this.#afterFf) {
        const ff = bytes.indexOf(0xff, at);
        if (ff < 0) break;
        this.#afterFf = true;
        at = ff + 1;
        continue;
      }
      const byte = bytes[at++] ?? 0;
      if (byte === 0xff) continue;
      this.#afterFf = false;
      if (byte === 0 || (byte >= 0xd0 && byte <= 0xd7)) continue;
      this.#seen.push(byte);
      return at;
    }
    return bytes.byteLength;
  }

  #isMet(want: Want): boolean {
    if (want === "marker") return this.#seen.length === 1;
    return "skip" in want ? this.#skipped === want.skip : this.#seen.length === want.take;
  }

  #next(): void {
    const bytes = Uint8Array.from(this.#seen);
    this.#seen = [];
    this.#skipped = 0;
    const want = this.#walk.next({ bytes, at: this.#at, crc: this.#crc }).value ?? null;
    this.#crc = want !== null && want !== "marker" && "skip" in want ? (want.crc ?? 0) : 0;
    this.#want = want;
  }
}
