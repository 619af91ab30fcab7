/**
 * PNG writer for what the cards draw, using only node:zlib.
 *
 * Truecolor, 8 bits, not interlaced. Each row uses the filter with the smallest sampled sum of absolute differences,
 * which keeps a painted megapixel near one megabyte.
 */
import { crc32, constants, deflateSync } from "node:zlib";

export const PNG_SIGNATURE: Uint8Array = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);

/** Level 1 with the filtered strategy: level 4 takes twice the time and saves a fifth. */
const DEFLATE = { level: 1, strategy: constants.Z_FILTERED, memLevel: 9 };
/** Every fourth pixel is enough to compare the filters. */
const SAMPLE_BYTES = 12;
const CHANNELS = 3;
const FILTER = { sub: 1, up: 2, average: 3, paeth: 4 } as const;

/** A finished picture: RGB rows without gaps. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Encodes a PNG; `parameters` becomes a text chunk, as the WebUI writes it. */
export function encodePng(pixels: Pixels, parameters: string | null): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(pixels.width, 0);
  header.writeUInt32BE(pixels.height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const parts = [PNG_SIGNATURE, chunk("IHDR", header)];
  if (parameters !== null) parts.push(textChunk("parameters", parameters));
  parts.push(chunk("IDAT", deflateSync(filterRows(pixels), DEFLATE)), chunk("IEND", new Uint8Array(0)));
  return Buffer.concat(parts);
}

function chunk(type: string, data: Uint8Array): Buffer {
  const out = Buffer.alloc(data.length + 12);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, "latin1");
  out.set(data, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

/** tEXt holds only Latin-1; other text goes into iTXt, uncompressed and without a language. */
function textChunk(keyword: string, text: string): Buffer {
  const clean = text.replaceAll("\0", " ");
  // eslint-disable-next-line no-control-regex
  if (/^[\x00-\xff]*$/.test(clean)) return chunk("tEXt", Buffer.from(`${keyword}\0${clean}`, "latin1"));
  return chunk("iTXt", Buffer.from(`${keyword}\0\0\0\0\0${clean}`, "utf8"));
}

function filterRows({ width, height, data }: Pixels): Uint8Array {
  const stride = width * CHANNELS;
  const out = new Uint8Array((stride + 1) * height);
  const blank = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const row = data.subarray(y * stride, (y + 1) * stride);
    const above = y === 0 ? blank : data.subarray((y - 1) * stride, y * stride);
    const target = out.subarray(y * (stride + 1), (y + 1) * (stride + 1));
    const kind = bestFilter(row, above);
    target[0] = kind;
    filterRow(kind, row, above, target);
  }
  return out;
}

function bestFilter(row: Uint8Array, above: Uint8Array): number {
  let sub = 0;
  let up = 0;
  let average = 0;
  let paeth = 0;
  for (let i = CHANNELS; i < row.length; i += SAMPLE_BYTES) {
    for (let c = i; c < i + CHANNELS; c++) {
      const value = row[c]!;
      const a = row[c - CHANNELS]!;
      const b = above[c]!;
      sub += Math.abs(value - a);
      up += Math.abs(value - b);
      average += Math.abs(value - ((a + b) >> 1));
      paeth += Math.abs(value - predictPaeth(a, b, above[c - CHANNELS]!));
    }
  }
  const least = Math.min(sub, up, average, paeth);
  if (least === up) return FILTER.up;
  if (least === sub) return FILTER.sub;
  return least === paeth ? FILTER.paeth : FILTER.average;
}

/** One plain loop per filter: a branch inside would double the time of the whole writer. */
function filterRow(kind: number, row: Uint8Array, above: Uint8Array, target: Uint8Array): void {
  const end = row.length;
  for (let i = 0; i < CHANNELS; i++) {
    const b = above[i]!;
    target[i + 1] = row[i]! - (kind === FILTER.sub ? 0 : kind === FILTER.average ? b >> 1 : b);
  }
  if (kind === FILTER.sub) for (let i = CHANNELS; i < end; i++) target[i + 1] = row[i]! - row[i - CHANNELS]!;
  else if (kind === FILTER.up) for (let i = CHANNELS; i < end; i++) target[i + 1] = row[i]! - above[i]!;
  else if (kind === FILTER.average)
    for (let i = CHANNELS; i < end; i++) target[i + 1] = row[i]! - ((row[i - CHANNELS]! + above[i]!) >> 1);
  else
    for (let i = CHANNELS; i < end; i++)
      target[i + 1] = row[i]! - predictPaeth(row[i - CHANNELS]!, above[i]!, above[i - CHANNELS]!);
}

/** The Paeth predictor of the PNG specification, section 9.4. */
export function predictPaeth(a: number, b: number, c: number): number {
  const p = a + b - c;
  const pa = Math.abs(p - a);
  const pb = Math.abs(p - b);
  const pc = Math.abs(p - c);
  if (pa <= pb && pa <= pc) return a;
  return pb <= pc ? b : c;
}
