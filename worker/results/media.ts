/**
 * Images and sounds by their bytes: what they are, and whether they are whole. Pure.
 *
 * PNG (W3C PNG 3), JPEG (ITU-T T.81), WebP (RFC 9649) and WAV (RIFF) carry their own end; a cut one is told apart from
 * a whole one whatever the transport said.
 */
import { type Walk, Walker } from "./media-walk.ts";

export interface Media {
  type: string;
  /** `whole`: its own structure ends with the last byte. `open`: it does not say where it ends. `cut`: it is damaged. */
  end: "whole" | "open" | "cut";
}

/** Types whose bytes say by themselves what they are, and where they end. */
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

/** What a Content-Type says (RFC 9110 8.3.1): lower case, without parameters; null where it says nothing. */
export function mediaTypeOf(headers: Headers): string | null {
  return headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() || null;
}

/** No sound is that long: what is said by streams that do not know their length. */
const UNKNOWN_BYTES_MIN = 0x7fff_0000;

const ascii = (bytes: Uint8Array, at: number, length: number) =>
  String.fromCharCode(...bytes.subarray(at, at + length));
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Null for what is none of the known kinds. */
export function media(bytes: Uint8Array): Media | null {
  const scan = new MediaScan();
  scan.push(bytes);
  return scan.end();
}

/** By so many bytes a kind is known. */
const HEAD_BYTES = 12;

/** The same judgement of bytes that come in pieces, none of which is kept. */
export class MediaScan {
  readonly #head = new Uint8Array(HEAD_BYTES);
  #total = 0;
  #form: Form | null = null;

  /** Null while too little has come, and for what is none of the known kinds. */
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

/** One known kind: what walks through its bytes, and what it says when they are all there. */
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

/** Chunks follow one another up to IEND, which is the last thing. */
function png(): Form {
  let hasData = false;
  let endsAt: number | null = null;
  function* walk(): Walk {
    yield { skip: 8 };
    for (let type = ""; type !== "IEND";) {
      const { bytes } = yield { take: 8 };
      type = ascii(bytes, 4, 4);
      hasData ||= type === "IDAT";
      const { at } = yield { skip: view(bytes).getUint32(0) + 4 };
      if (type === "IEND") endsAt = at;
    }
  }
  const end = (total: number) => (hasData && endsAt === total ? "whole" : "cut");
  return { type: "image/png", walker: new Walker(walk()), end };
}

/** Marker segments, entropy-coded data after each start of a scan, and EOI as the last thing. */
function jpeg(): Form {
  let hasScan = false;
  let endsAt: number | null = null;
  function* walk(): Walk {
    yield { skip: 2 };
    for (;;) {
      let seen = yield { take: 1 };
      if (seen.bytes[0] !== 0xff) return;
      // Any number of them may fill.
      while (seen.bytes[0] === 0xff) seen = yield { take: 1 };
      // After entropy-coded data the next marker has been read already.
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

/** A streamed WAV says 0 or a very large number as its size, or counts its header alone. */
function wav(size: number): Form {
  /** Where the samples stand, as its `data` chunk says. */
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

/** The RIFF size is the rest of the file, but for a byte that makes it even. */
function riffEnd(size: number, rest: number): Media["end"] {
  return rest === size || rest === size + (size % 2) ? "whole" : "cut";
}

/** The bytes of base64 text (a `data:` prefix is allowed), or null. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  const comma = text.startsWith("data:") ? text.indexOf(",") + 1 : 0;
  try {
    return Uint8Array.fromBase64(text.slice(comma));
  } catch {
    return null;
  }
}
