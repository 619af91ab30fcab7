/**
 * Images and sounds by their bytes: what they are, and whether they are whole. Pure.
 *
 * PNG (W3C PNG 3), JPEG (ITU-T T.81), WebP (RFC 9649) and WAV (RIFF) carry their own end; a cut one is told apart from
 * a whole one whatever the transport said.
 */

export interface Media {
  type: string;
  /** `whole`: its own structure ends with the last byte. `open`: it does not say where it ends. `cut`: it is damaged. */
  end: "whole" | "open" | "cut";
}

/** What a Content-Type says (RFC 9110 8.3.1): lower case, without parameters; null where it says nothing. */
export function mediaTypeOf(headers: Headers): string | null {
  return headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() || null;
}

/** No sound is that long: what is said by streams that do not know their length. */
const UNKNOWN_BYTES_MIN = 0x7fff_0000;

const ascii = (bytes: Uint8Array, at: number, length: number) =>
  String.fromCharCode(...bytes.subarray(at, at + length));

/** Null for what is none of the known kinds. */
export function media(bytes: Uint8Array): Media | null {
  if (bytes.byteLength < 12) return null;
  if (ascii(bytes, 0, 8) === "\x89PNG\r\n\x1a\n") return { type: "image/png", end: pngEnd(bytes) };
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return { type: "image/jpeg", end: jpegEnd(bytes) };
  if (ascii(bytes, 0, 4) === "RIFF") {
    const form = ascii(bytes, 8, 4);
    if (form === "WEBP") return { type: "image/webp", end: riffEnd(bytes, false) };
    if (form === "WAVE") return { type: "audio/wav", end: riffEnd(bytes, true) };
  }
  if (ascii(bytes, 0, 4) === "fLaC") return { type: "audio/flac", end: "open" };
  if (ascii(bytes, 0, 4) === "OggS") return { type: "audio/ogg", end: "open" };
  if (ascii(bytes, 0, 3) === "ID3" || (bytes[0] === 0xff && ((bytes[1] ?? 0) & 0xe6) === 0xe2))
    return { type: "audio/mpeg", end: "open" };
  return null;
}

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Chunks follow one another up to IEND, which is the last thing. */
function pngEnd(bytes: Uint8Array): Media["end"] {
  const data = view(bytes);
  let hasData = false;
  for (let at = 8; at + 12 <= bytes.byteLength;) {
    const length = data.getUint32(at);
    const type = ascii(bytes, at + 4, 4);
    at += 12 + length;
    if (type === "IDAT") hasData = true;
    if (type === "IEND") return hasData && at === bytes.byteLength ? "whole" : "cut";
  }
  return "cut";
}

/** Marker segments, entropy-coded data after each start of a scan, and EOI as the last thing. */
function jpegEnd(bytes: Uint8Array): Media["end"] {
  const data = view(bytes);
  let hasScan = false;
  for (let at = 2; at + 2 <= bytes.byteLength;) {
    if (bytes[at] !== 0xff) return "cut";
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xd9) return hasScan && at + 2 === bytes.byteLength ? "whole" : "cut";
    if (marker === 0xff) {
      // A fill byte.
      at += 1;
      continue;
    }
    if (at + 4 > bytes.byteLength) return "cut";
    at += 2 + data.getUint16(at + 2);
    if (marker !== 0xda) continue;
    hasScan = true;
    at = scanEnd(bytes, at);
  }
  return "cut";
}

/** Where the next marker stands after entropy-coded data: FF 00 is a byte of it, RST0 to RST7 stand within it. */
function scanEnd(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(0xff, from); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    const next = bytes[at + 1] ?? 0;
    if (next !== 0 && next !== 0xff && (next < 0xd0 || next > 0xd7)) return at;
  }
  return bytes.byteLength;
}

/** The RIFF size is the rest of the file. A streamed WAV says 0 or a very large number, or counts its header alone. */
function riffEnd(bytes: Uint8Array, sound: boolean): Media["end"] {
  const size = view(bytes).getUint32(4, true);
  const rest = bytes.byteLength - 8;
  if (sound && (size === 0 || size >= UNKNOWN_BYTES_MIN)) return "open";
  const sounding = sound ? soundBytes(bytes) : null;
  if (rest > size && sounding?.length === 0) return "open";
  if (rest !== size && rest !== size + (size % 2)) return "cut";
  if (!sound) return "whole";
  return sounding !== null && sounding.from + sounding.length <= bytes.byteLength ? "whole" : "cut";
}

/** Where the samples stand in a WAV, as its `data` chunk says; null without one. */
function soundBytes(bytes: Uint8Array): { from: number; length: number } | null {
  const data = view(bytes);
  for (let at = 12; at + 8 <= bytes.byteLength;) {
    const length = data.getUint32(at + 4, true);
    if (ascii(bytes, at, 4) === "data") return { from: at + 8, length };
    at += 8 + length + (length % 2);
  }
  return null;
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
