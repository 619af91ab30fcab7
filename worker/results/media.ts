/**
 * Recognizes images and sounds by their bytes, and checks whether they are complete. Pure.
 *
 * PNG (W3C PNG 3), JPEG (ITU-T T.81), WebP (RFC 9649) and WAV (RIFF) mark their own end, so a truncated file is
 * detected whatever the transport says.
 */
import { crc32 } from "node:zlib";
import { type Walk, Walker } from "./media-walk.ts";

export interface Media {
  type: string;
  /** `whole`: its structure ends exactly at the last byte. `open`: the format does not mark its end. `cut`: damaged. */
  end: "whole" | "open" | "cut";
}

/** Types that can be recognized by their bytes. */
const TELLING = new Set([
  "image/png",
  "image/jpeg",
  "image/webp",
  "audio/wav",
  "audio/x-wav",
  "audio/wave",
  "audio/vnd.wave",
]);

export function isTelling(mediaType: string | null): boolean {
  return mediaType !== null && TELLING.has(mediaType);
}

/** The media type in Content-Type (RFC 9110 8.3.1): lower case, without parameters; null when there is none. */
export function mediaTypeOf(headers: Headers): string | null {
  return headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() || null;
}

/** No real sound is that long; streams of unknown length declare such sizes. */
const UNKNOWN_BYTES_MIN = 0x7fff_0000;

const ascii = (bytes: Uint8Array, at: number, length: number) =>
  String.fromCharCode(...bytes.subarray(at, at + length));
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Returns null for an unknown format. */
export function media(bytes: Uint8Array): Media | null {
  const scan = new MediaScan();
  scan.push(bytes);
  return scan.end();
}

/** Bytes needed to recognize a format. */
export const HEAD_BYTES = 12;

/** The same check for bytes that arrive in chunks, without keeping them. */
export class MediaScan {
  readonly #head = new Uint8Array(HEAD_BYTES);
  #total = 0;
  #form: Form | null = null;

  /** Null until enough bytes have arrived, and for unknown formats. */
  get type(): string | null {
    return this.#form?.type ?? null;
  }

  push(bytes: Uint8Array): void {
    const inHead = bytes.subarray(0, Math.max(0, HEAD_BYTES - this.#total));
    this.#head.set(inHead, Math.min(this.#total, HEAD_BYTES));
    const isKnown = this.#total >= HEAD_BYTES;
    this.#total += bytes.byteLength;
    if (this.#total < HEAD_BYTES) return;
    if (!isKnown) {
      this.#form = formOf(this.#head);
      this.#form?.walker?.push(this.#head);
    }
    this.#form?.walker?.push(bytes.subarray(inHead.byteLength));
  }

  end(): Media | null {
    return this.#form === null ? null : { type: this.#form.type, end: this.#form.end(this.#total) };
  }
}

/** A recognized format: the walker for its bytes, and the verdict once all have arrived. */
interface Form {
  type: string;
  walker: Walker | null;
  end: (total: number) => Media["end"];
}

function formOf(head: Uint8Array): Form | null {
  if (ascii(head, 0, 8) === "\x89PNG\r\n\x1a\n") return png();
  if (head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff) return jpeg();
  if (ascii(head, 0, 4) === "RIFF") {
    const size = view(head).getUint32(4, true);
    const form = ascii(head, 8, 4);
    if (form === "WEBP") return { type: "image/webp", walker: null, end: (total) => riffEnd(size, total - 8) };
    if (form === "WAVE") return wav(size);
  }
  const isMpeg = ascii(head, 0, 3) === "ID3" || (head[0] === 0xff && ((head[1] ?? 0) & 0xe6) === 0xe2);
  const open = ascii(head, 0, 4) === "fLaC" ? "flac" : ascii(head, 0, 4) === "OggS" ? "ogg" : isMpeg ? "mpeg" : null;
  return open === null ? null : { type: `audio/${open}`, walker: null, end: () => "open" };
}

/** A sequence of chunks from IHDR to IEND, with correct checksums. */
function png(): Form {
  let hasData = false;
  let endsAt: number | null = null;
  function* walk(): Walk {
    yield { skip: 8 };
    for (let type = ""; type !== "IEND";) {
      const isFirst = type === "";
      const { bytes: head } = yield { take: 8 };
      type = ascii(head, 4, 4);
      if (isFirst !== (type === "IHDR")) return;
      hasData ||= type === "IDAT";
      const { crc } = yield { skip: view(head).getUint32(0), crc: crc32(head.subarray(4)) };
      const { bytes: sum, at } = yield { take: 4 };
      if (view(sum).getUint32(0) !== crc) return;
      if (type === "IEND") endsAt = at;
    }
  }
  const end = (total: number) => (hasData && endsAt === total ? "whole" : "cut");
  return { type: "image/png", walker: new Walker(walk()), end };
}

/** Marker segments, with entropy-coded data after each start of scan, and EOI last. */
function jpeg(): Form {
  let hasScan = false;
  let endsAt: number | null = null;
  function* walk(): Walk {
    yield { skip: 2 };
    for (;;) {
      let seen = yield { take: 1 };
      if (seen.bytes[0] !== 0xff) return;
      // Markers may be preceded by any number of fill bytes.
      while (seen.bytes[0] === 0xff) seen = yield { take: 1 };
      // After entropy-coded data, the next marker has already been read.
      for (let isCoded = true; isCoded;) {
        const marker = seen.bytes[0];
        if (marker === 0xd9) {
          endsAt = seen.at;
          return;
        }
        const length = view((yield { take: 2 }).bytes).getUint16(0);
        if (length < 2) return;
        yield { skip: length - 2 };
        isCoded = marker === 0xda;
        hasScan ||= isCoded;
        if (isCoded) seen = yield "marker";
      }
    }
  }
  const end = (total: number) => (hasScan && endsAt === total ? "whole" : "cut");
  return { type: "image/jpeg", walker: new Walker(walk()), end };
}

/** A streamed WAV declares a size of 0, a very large size, or only the size of its header. */
function wav(size: number): Form {
  /** Position of the samples, from the `data` chunk. */
  let sound: { from: number; length: number } | null = null;
  function* walk(): Walk {
    yield { skip: 12 };
    while (sound === null) {
      const { bytes, at } = yield { take: 8 };
      const length = view(bytes).getUint32(4, true);
      if (ascii(bytes, 0, 4) === "data") sound = { from: at, length };
      else yield { skip: length + (length % 2) };
    }
  }
  const end = (total: number) => {
    if (size === 0 || size >= UNKNOWN_BYTES_MIN) return "open";
    if (sound?.length === 0 && total - 8 > size) return "open";
    const isIn = sound !== null && sound.from + sound.length <= total;
    return isIn ? riffEnd(size, total - 8) : "cut";
  };
  return { type: "audio/wav", walker: new Walker(walk()), end };
}

/** The RIFF size covers the rest of the file, except for a padding byte after an odd size. */
function riffEnd(size: number, rest: number): Media["end"] {
  return rest === size || rest === size + (size % 2) ? "whole" : "cut";
}

/** Decodes base64 text (with or without a `data:` prefix); null when it is invalid. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  const comma = text.startsWith("data:") ? text.indexOf(",") + 1 : 0;
  try {
    return Uint8Array.fromBase64(text.slice(comma));
  } catch {
    return null;
  }
}
