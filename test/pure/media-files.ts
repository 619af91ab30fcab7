/** fast-check arbitraries for images and sounds: valid structure, with bytes inside that look like an end. */
import { crc32 } from "node:zlib";
import * as fc from "fast-check";

const text = (characters: string) => Uint8Array.from(characters, (character) => character.charCodeAt(0));
const u32 = (value: number) => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
const le32 = (value: number) => u32(value).toReversed();
const u16 = (value: number) => Uint8Array.of(value >>> 8, value);

export function joined(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Byte sequences that a naive scan takes for an end. */
const LURES = [
  Uint8Array.of(0xff, 0xd9),
  text("IEND\xae\x42\x60\x82"),
  joined(u32(0), text("IEND"), u32(0)),
  text("RIFF"),
  text("data"),
  Uint8Array.of(0xff, 0xda),
];

const bytes = (maxLength: number) =>
  fc
    .array(fc.oneof(fc.uint8Array({ maxLength: 12 }), fc.constantFrom(...LURES)), { maxLength: 4 })
    .map((parts) => joined(...parts).subarray(0, maxLength));

const pngChunk = (type: string, data: Uint8Array) =>
  joined(u32(data.length), text(type), data, u32(crc32(joined(text(type), data))));

export const png: fc.Arbitrary<Uint8Array> = fc
  .record({ notes: fc.array(bytes(40), { maxLength: 3 }), data: fc.array(bytes(40), { minLength: 1, maxLength: 3 }) })
  .map(({ notes, data }) =>
    joined(
      text("\x89PNG\r\n\x1a\n"),
      pngChunk("IHDR", new Uint8Array(13)),
      ...notes.map((note) => pngChunk("tEXt", note)),
      ...data.map((part) => pngChunk("IDAT", part)),
      pngChunk("IEND", new Uint8Array()),
    ),
  );

const segment = (marker: number, data: Uint8Array) => joined(Uint8Array.of(0xff, marker), u16(data.length + 2), data);
/** Entropy-coded data: each FF in it is followed by 00. */
const coded = bytes(40).map((raw) => Uint8Array.from([...raw].flatMap((byte) => (byte === 0xff ? [0xff, 0] : [byte]))));
/** Any marker may be preceded by fill bytes (FF). */
const fill = fc.nat({ max: 2 }).map((length) => new Uint8Array(length).fill(0xff));
const restart = fc.integer({ min: 0xd0, max: 0xd7 }).map((marker) => Uint8Array.of(0xff, marker));
const intervals = fc.array(fc.tuple(coded, fill, restart), { maxLength: 3 }).map((list) => joined(...list.flat()));

const scan = fc
  .record({ table: bytes(30), intervals, last: coded, fill })
  .map(({ table, intervals: before, last, fill: after }) => [
    segment(0xc4, table),
    segment(0xda, new Uint8Array(6)),
    before,
    last,
    after,
  ]);

/** Several scans as in a progressive image, with tables between them, and a thumbnail with its own end marker. */
export const jpeg: fc.Arbitrary<Uint8Array> = fc
  .record({ thumbnail: bytes(60), scans: fc.array(scan, { minLength: 1, maxLength: 3 }) })
  .map(({ thumbnail, scans }) =>
    joined(
      Uint8Array.of(0xff, 0xd8),
      segment(0xe1, joined(thumbnail, Uint8Array.of(0xff, 0xd9))),
      segment(0xc2, new Uint8Array(9)),
      ...scans.flat(),
      Uint8Array.of(0xff, 0xd9),
    ),
  );

const riffChunk = (type: string, data: Uint8Array) =>
  joined(text(type), le32(data.length), data, new Uint8Array(data.length % 2));
const riff = (form: string, chunks: Uint8Array) => joined(text("RIFF"), le32(chunks.length + 4), text(form), chunks);

export const webp: fc.Arbitrary<Uint8Array> = fc
  .record({ picture: bytes(60), note: bytes(20) })
  .map(({ picture, note }) =>
    riff("WEBP", joined(riffChunk("VP8X", new Uint8Array(10)), riffChunk("VP8 ", picture), riffChunk("EXIF", note))),
  );

/** A WAV with its length in the header, optionally with notes before and after the samples. */
export const wav: fc.Arbitrary<Uint8Array> = fc
  .record({
    samples: fc.uint8Array({ minLength: 1, maxLength: 60 }),
    before: fc.option(bytes(20)),
    after: fc.option(bytes(20)),
  })
  .map(({ samples, before, after }) =>
    riff(
      "WAVE",
      joined(
        riffChunk("fmt ", new Uint8Array(16)),
        ...(before === null ? [] : [riffChunk("LIST", before)]),
        riffChunk("data", samples),
        ...(after === null ? [] : [riffChunk("LIST", after)]),
      ),
    ),
  );

/** A WAV header with the given two lengths. */
export function wavHeader(riffBytes: number, dataBytes: number): Uint8Array {
  const fmt = riffChunk("fmt ", new Uint8Array(16));
  return joined(text("RIFF"), le32(riffBytes), text("WAVE"), fmt, text("data"), le32(dataBytes));
}
