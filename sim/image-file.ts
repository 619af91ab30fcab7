/** Image files sent by callers: their size, and the pixels of plain PNGs. Pure. */
import { inflateSync } from "node:zlib";
import { predictPaeth, PNG_SIGNATURE } from "./png.ts";
import type { Pixels } from "./png.ts";

export interface Size {
  readonly width: number;
  readonly height: number;
}

const DECODED_PIXELS_MAX = 4096 * 4096;

/** The size in an image file's header; null if it is not a PNG, JPEG, GIF or WebP. */
export function imageSize(file: Buffer): Size | null {
  if (file.length < 24) return null;
  if (file.subarray(0, 8).equals(PNG_SIGNATURE)) return sizeOf(file.readUInt32BE(16), file.readUInt32BE(20));
  if (file.readUInt16BE(0) === 0xffd8) return jpegSize(file);
  if (/^GIF8[79]a$/.test(file.toString("latin1", 0, 6))) return sizeOf(file.readUInt16LE(6), file.readUInt16LE(8));
  if (file.toString("latin1", 0, 4) === "RIFF" && file.toString("latin1", 8, 12) === "WEBP") return webpSize(file);
  return null;
}

function sizeOf(width: number, height: number): Size | null {
  return width > 0 && height > 0 ? { width, height } : null;
}

/** Walks the segments to the frame header, which is the first SOF. */
function jpegSize(file: Buffer): Size | null {
  for (let at = 2; at + 9 < file.length;) {
    if (file[at] !== 0xff) return null;
    const marker = file[at + 1]!;
    const frame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (frame) return sizeOf(file.readUInt16BE(at + 7), file.readUInt16BE(at + 5));
    at += 2 + file.readUInt16BE(at + 2);
  }
  return null;
}

function webpSize(file: Buffer): Size | null {
  if (file.length < 30) return null;
  const kind = file.toString("latin1", 12, 16);
  if (kind === "VP8X") return sizeOf(file.readUIntLE(24, 3) + 1, file.readUIntLE(27, 3) + 1);
  if (kind === "VP8 ") return sizeOf(file.readUInt16LE(26) & 0x3fff, file.readUInt16LE(28) & 0x3fff);
  const bits = file.readUInt32LE(21);
  return kind === "VP8L" ? sizeOf((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1) : null;
}

const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** The pixels of an 8-bit non-interlaced PNG; null for any other file. */
export function decodePng(bytes: Uint8Array): Pixels | null {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length < 33 || !file.subarray(0, 8).equals(PNG_SIGNATURE)) return null;
  const width = file.readUInt32BE(16);
  const height = file.readUInt32BE(20);
  const channels = CHANNELS[file[25]!];
  if (!channels || file[24] !== 8 || file[28] !== 0 || width * height > DECODED_PIXELS_MAX || width * height === 0)
    return null;
  const parts: Buffer[] = [];
  let palette: Buffer | null = null;
  for (let at = 8; at + 12 <= file.length;) {
    const length = file.readUInt32BE(at);
    const type = file.toString("latin1", at + 4, at + 8);
    const data = file.subarray(at + 8, at + 8 + length);
    if (type === "IDAT") parts.push(data);
    else if (type === "PLTE") palette = data;
    at += length + 12;
  }
  const stride = width * channels;
  const raw = inflate(Buffer.concat(parts), (stride + 1) * height);
  if (!raw || (file[25] === 3 && !palette)) return null;
  return { width, height, data: toRgb(unfilter(raw, stride, height, channels), channels, palette) };
}

/** Returns null for a file that is truncated or does not match its stated size. */
function inflate(packed: Buffer, bytes: number): Buffer | null {
  try {
    const raw = inflateSync(packed, { maxOutputLength: bytes });
    return raw.length === bytes ? raw : null;
  } catch {
    return null;
  }
}

function unfilter(raw: Buffer, stride: number, height: number, channels: number): Uint8Array {
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const kind = raw[y * (stride + 1)];
    for (let i = 0; i < stride; i++) {
      const at = y * stride + i;
      const a = i < channels ? 0 : out[at - channels]!;
      const b = y === 0 ? 0 : out[at - stride]!;
      const c = i < channels || y === 0 ? 0 : out[at - stride - channels]!;
      out[at] = raw[y * (stride + 1) + 1 + i]! + predicted(kind ?? 0, a, b, c);
    }
  }
  return out;
}

function predicted(kind: number, a: number, b: number, c: number): number {
  if (kind === 1) return a;
  if (kind === 2) return b;
  if (kind === 3) return (a + b) >> 1;
  return kind === 4 ? predictPaeth(a, b, c) : 0;
}

/** Converts gray and palette pixels to RGB and drops transparency. */
function toRgb(data: Uint8Array, channels: number, palette: Buffer | null): Uint8Array {
  const pixels = data.length / channels;
  const out = new Uint8Array(pixels * 3);
  for (let k = 0; k < pixels; k++) {
    for (let c = 0; c < 3; c++) {
      const grey = data[k * channels]!;
      out[k * 3 + c] = channels >= 3 ? data[k * channels + c]! : palette ? (palette[grey * 3 + c] ?? 0) : grey;
    }
  }
  return out;
}
