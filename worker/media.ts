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

const ascii = (bytes: Uint8Array, at: number, length: number) => String.fromCharCode(...bytes.subarray(at, at + length));

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
  if (ascii(bytes, 0, 3) === "ID3" || (bytes[0] === 0xff && ((bytes[1] ?? 0) & 0xe6) === 0xe2)) return { type: "audio/mpeg", end: "open" };
  return null;
}

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Chunks follow one another up to IEND, which is the last thing. */
function pngEnd(bytes: Uint8Array): Media["end"] {
  const data = view(bytes);
  let hasData = false;
  for (let at = 8; at + 12 <= bytes.byteLength; ) {
    const length = data.getUint32(at);
    const type = ascii(bytes, at + 4, 4);
    at += 12 + length;
    if (type === "IDAT") hasData = true;
    if (type === "IEND") return hasData && at === bytes.byteLength ? "whole" : "cut";
  }
  return "cut";
}

/** Marker segments up to the scan, entropy-coded data, and EOI as the last marker. */
function jpegEnd(bytes: Uint8Array): Media["end"] {
  const data = view(bytes);
  for (let at = 2; at + 4 <= bytes.byteLength; ) {
    if (bytes[at] !== 0xff) return "cut";
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xda) break;
    at += 2 + data.getUint16(at + 2);
    if (at + 4 > bytes.byteLength) return "cut";
  }
  return bytes.at(-2) === 0xff && bytes.at(-1) === 0xd9 ? "whole" : "cut";
}

/** The RIFF size is the rest of the file; a streamed WAV says 0 or the largest number instead. */
function riffEnd(bytes: Uint8Array, sound: boolean): Media["end"] {
  const data = view(bytes);
  const size = data.getUint32(4, true);
  if (sound && (size === 0 || size >= 0xffff_ffff - 64)) return "open";
  const rest = bytes.byteLength - 8;
  if (rest !== size && rest !== size + (size % 2)) return "cut";
  if (!sound) return "whole";
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const length = data.getUint32(at + 4, true);
    if (ascii(bytes, at, 4) === "data") return at + 8 + length <= bytes.byteLength ? "whole" : "cut";
    at += 8 + length + (length % 2);
  }
  return "cut";
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
