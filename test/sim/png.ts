/** A PNG reader that shares no code with the encoder under test. */
import { crc32, inflateSync } from "node:zlib";

export interface Png {
  readonly width: number;
  readonly height: number;
  /** RGB rows without padding. */
  readonly pixels: Uint8Array;
  /** Chunk type, keyword and text of every text chunk. */
  readonly texts: readonly {
    readonly type: string;
    readonly keyword: string;
    readonly text: string;
  }[];
}

const SIGNATURE = "89504e470d0a1a0a";

export function readPng(file: Buffer): Png {
  if (file.toString("hex", 0, 8) !== SIGNATURE) throw new Error("no PNG signature");
  const chunks = chunksOf(file);
  const [first] = chunks;
  if (first?.type !== "IHDR" || chunks.at(-1)?.type !== "IEND") throw new Error("IHDR must come first and IEND last");
  const [width, height] = [first.data.readUInt32BE(0), first.data.readUInt32BE(4)];
  if (first.data.toString("hex", 8) !== "0802000000") throw new Error("not eight-bit truecolour");
  const packed = Buffer.concat(chunks.filter(({ type }) => type === "IDAT").map(({ data }) => data));
  return {
    width,
    height,
    pixels: unfilter(inflateSync(packed), width * 3, height),
    texts: chunks.flatMap(textOf),
  };
}

interface Chunk {
  readonly type: string;
  readonly data: Buffer;
}

function chunksOf(file: Buffer): Chunk[] {
  const chunks: Chunk[] = [];
  let at = 8;
  while (at < file.length) {
    const end = at + 8 + file.readUInt32BE(at);
    if (crc32(file.subarray(at + 4, end)) !== file.readUInt32BE(end)) throw new Error("wrong CRC");
    chunks.push({
      type: file.toString("latin1", at + 4, at + 8),
      data: file.subarray(at + 8, end),
    });
    at = end + 4;
  }
  if (at !== file.length) throw new Error("bytes after the last chunk");
  return chunks;
}

function textOf({ type, data }: Chunk): { type: string; keyword: string; text: string }[] {
  const end = data.indexOf(0);
  const keyword = data.toString("latin1", 0, end);
  if (type === "tEXt") return [{ type, keyword, text: data.toString("latin1", end + 1) }];
  // Compression flag and method, then an empty language and an empty translated keyword.
  if (type === "iTXt") return [{ type, keyword, text: data.toString("utf8", end + 5) }];
  return [];
}

function unfilter(raw: Buffer, stride: number, height: number): Uint8Array {
  if (raw.length !== (stride + 1) * height) throw new Error("wrong number of bytes");
  const out = new Uint8Array(stride * height);
  const at = (x: number, y: number): number => (x < 0 || y < 0 ? 0 : (out[y * stride + x] ?? 0));
  for (let y = 0; y < height; y++) {
    const kind = raw.readUInt8(y * (stride + 1));
    for (let x = 0; x < stride; x++) {
      const [a, b, c] = [at(x - 3, y), at(x, y - 1), at(x - 3, y - 1)];
      out[y * stride + x] = raw.readUInt8(y * (stride + 1) + 1 + x) + guess(kind, a, b, c);
    }
  }
  return out;
}

function guess(kind: number, a: number, b: number, c: number): number {
  if (kind === 0) return 0;
  if (kind === 1) return a;
  if (kind === 2) return b;
  if (kind === 3) return Math.floor((a + b) / 2);
  if (kind !== 4) throw new Error("unknown filter");
  const estimate = a + b - c;
  return [a, b, c].reduce((best, each) => (Math.abs(estimate - each) < Math.abs(estimate - best) ? each : best));
}
