/**
 * Converts between raw PCM samples and WAV (RIFF) while streaming, by adding or removing the header. 16-bit mono;
 * nothing is resampled.
 */
import { concat } from "../body/bytes.ts";

const HEADER_BYTES = 44;
/** The samples of a WAV must begin within this many bytes; otherwise it is not accepted. */
const HEAD_BYTES_MAX = 64 * 1024;
/** The size that stands for an unknown length, and the smallest size that is taken for one. */
const UNKNOWN_BYTES = 0xffff_ffff;
const UNKNOWN_BYTES_MIN = 0x7fff_0000;
const PCM = 1;

type Reader = ReadableStreamDefaultReader<Uint8Array>;

/** A sound whose beginning was read to detect its format, and the reader for the rest. */
export interface Sound {
  head: Uint8Array;
  reader: Reader;
  /** Null: raw samples. */
  wav: WavHead | null;
}

export interface WavHead {
  /** Where the samples begin. */
  from: number;
  /** Bytes of samples; null: up to the end. */
  length: number | null;
  /** 16-bit mono PCM. */
  plain: boolean;
}

/** Reads enough to detect the format. Returns null for a WAV without samples. Throws when the source breaks off. */
export async function soundOf(source: ReadableStream<Uint8Array>): Promise<Sound | null> {
  const reader = source.getReader();
  const pieces: Uint8Array[] = [];
  for (let bytes = 0; ;) {
    const { done, value } = await reader.read();
    if (value !== undefined) pieces.push(value);
    bytes += value?.byteLength ?? 0;
    const head = concat(pieces, bytes);
    if (bytes >= 12 && !isWave(head)) return { head, reader, wav: null };
    const wav = bytes >= 12 ? wavHead(head) : null;
    if (wav !== null) return { head, reader, wav };
    if (done && bytes < 12) return { head, reader, wav: null };
    if (!done && bytes <= HEAD_BYTES_MAX) continue;
    await reader.cancel();
    return null;
  }
}

const ascii = (bytes: Uint8Array, from: number) => String.fromCharCode(...bytes.subarray(from, from + 4));

function isWave(head: Uint8Array): boolean {
  return ascii(head, 0) === "RIFF" && ascii(head, 8) === "WAVE";
}

/** Returns null when the samples have not begun. */
export function wavHead(bytes: Uint8Array): WavHead | null {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let plain = false;
  for (let from = 12; from + 8 <= bytes.byteLength;) {
    const length = data.getUint32(from + 4, true);
    const name = ascii(bytes, from);
    from += 8;
    if (name === "data") return { from, length: length === 0 || length >= UNKNOWN_BYTES_MIN ? null : length, plain };
    if (name === "fmt " && from + 16 <= bytes.byteLength) {
      const [format, channels, bits] = [0, 2, 14].map((offset) => data.getUint16(from + offset, true));
      plain = format === PCM && channels === 1 && bits === 16;
    }
    from += length + (length % 2);
  }
  return null;
}

/** A WAV unchanged, or raw samples behind a header of unknown length. */
export function asWav({ head, reader, wav }: Sound, rateHz: number): ReadableStream<Uint8Array> {
  return flow(reader, wav === null ? [wavHeader(rateHz), head] : [head], null);
}

/** The samples without a header. */
export function asPcm({ head, reader, wav }: Sound): ReadableStream<Uint8Array> {
  return flow(reader, [head.subarray(wav?.from ?? 0)], wav?.length ?? null);
}

/** `most`: maximum bytes to pass on; what follows is not sound. */
function flow(reader: Reader, first: Uint8Array[], most: number | null): ReadableStream<Uint8Array> {
  let left = most ?? Number.POSITIVE_INFINITY;
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const chunk = first.shift() ?? (await reader.read()).value;
    if (chunk === undefined) return controller.close();
    const piece = chunk.subarray(0, left);
    left -= piece.byteLength;
    if (piece.byteLength > 0) return controller.enqueue(piece);
    // An empty chunk must not be enqueued, and `pull` is called again only after an enqueue.
    return pull(controller);
  };
  return new ReadableStream({ pull, cancel: (reason) => reader.cancel(reason) }, { highWaterMark: 0 });
}

/** A RIFF header for 16-bit mono samples of unknown length. */
export function wavHeader(rateHz: number): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  const data = new DataView(header.buffer);
  const write = (at: number, text: string): void => header.set(new TextEncoder().encode(text), at);
  write(0, "RIFF");
  data.setUint32(4, UNKNOWN_BYTES, true);
  write(8, "WAVEfmt ");
  data.setUint32(16, 16, true);
  data.setUint16(20, PCM, true);
  data.setUint16(22, 1, true);
  data.setUint32(24, rateHz, true);
  data.setUint32(28, rateHz * 2, true);
  data.setUint16(32, 2, true);
  data.setUint16(34, 16, true);
  write(36, "data");
  data.setUint32(40, UNKNOWN_BYTES, true);
  return header;
}
