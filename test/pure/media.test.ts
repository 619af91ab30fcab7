import * as fc from "fast-check";
import { expect, test } from "vitest";
import { media, MediaScan } from "../../worker/results/media.ts";
import { joined, jpeg, png, wav, wavHeader, webp } from "./media-files.ts";
import { expectSame } from "./same.ts";

const KINDS = [
  { type: "image/png", files: png },
  { type: "image/jpeg", files: jpeg },
  { type: "image/webp", files: webp },
  { type: "audio/wav", files: wav },
];
/** Files shorter than this are not recognized. */
const HEAD_BYTES = 12;
/** Lengths that streams of unknown length declare. */
const UNKNOWN = [0, 0xffff_ffff, 0xffff_ffff - 8, 0x7fff_ffff, 0x7fff_f024];

const padded = (...start: number[]) => Uint8Array.from([...start, ...new Uint8Array(20)]);

test("a PNG, JPEG, WebP or WAV that ends where it declares is whole", () => {
  for (const { type, files } of KINDS) {
    fc.assert(
      fc.property(files, (file) => expectSame(media(file), { type, end: "whole" })),
      { numRuns: 500 },
    );
  }
});

test("a PNG, JPEG, WebP or WAV truncated at any byte is cut, or not recognized", () => {
  for (const { type, files } of KINDS) {
    const property = fc.property(files, (file) => {
      for (let length = 0; length < file.length; length++) {
        expectSame(
          media(file.subarray(0, length)),
          length < HEAD_BYTES ? null : { type, end: "cut" },
          `${length} of ${file.length} bytes`,
        );
      }
    });
    fc.assert(property, { numRuns: 300 });
  }
});

test("a file scanned in pieces gets the same result as the whole, truncated, extended or intact", () => {
  const files = fc.oneof(...KINDS.map(({ files: some }) => some));
  const more = fc.uint8Array({ maxLength: 4 });
  const property = fc.property(
    files,
    more,
    fc.nat(),
    fc.array(fc.nat(), { maxLength: 8 }),
    (file, after, cut, cuts) => {
      const bytes = joined(file, after).subarray(0, cut % (file.length + after.length + 1));
      const scan = new MediaScan();
      const places = [0, ...cuts.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
      places.forEach((place, i) => scan.push(bytes.subarray(place, places[i + 1] ?? place)));
      expectSame(scan.end(), media(bytes));
    },
  );
  fc.assert(property, { numRuns: 5_000 });
});

test("a file with bytes after its end is not whole", () => {
  const after = fc.uint8Array({ minLength: 2, maxLength: 20 });
  for (const { files } of KINDS) {
    const property = fc.property(files, after, (file, more) => expectSame(media(joined(file, more))?.end, "cut"));
    fc.assert(property, { numRuns: 300 });
  }
});

test("a PNG with any byte changed is not whole", () => {
  const property = fc.property(png, fc.nat(), fc.integer({ min: 1, max: 255 }), (file, at, change) => {
    const place = at % file.length;
    const damaged = file.with(place, (file[place] ?? 0) ^ change);
    expectSame(media(damaged)?.end === "whole", false, `byte ${place} of ${file.length}`);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("a PNG begins with IHDR, and has only one", () => {
  const file = fc.sample(png, { numRuns: 1, seed: 1 })[0] ?? new Uint8Array();
  const [start, header, rest] = [file.subarray(0, 8), file.subarray(8, 33), file.subarray(33)];
  expect(media(joined(start, header, rest))?.end).toBe("whole");
  expect(media(joined(start, rest))?.end).toBe("cut");
  expect(media(joined(start, header, header, rest))?.end).toBe("cut");
});

test("a JPEG cut between two scans is cut even if the last bytes look like an end", () => {
  const head = [0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xc4, 0, 9];
  expect(media(Uint8Array.from([...head, 0xff, 0xd9]))).toEqual({ type: "image/jpeg", end: "cut" });
  expect(media(Uint8Array.from([...head, 1, 2, 3, 4, 5, 6, 7, 0xff, 0xd9]))).toEqual({
    type: "image/jpeg",
    end: "whole",
  });
});

test("an image without image data is not whole", () => {
  const file = fc.sample(png, { numRuns: 1, seed: 1 })[0] ?? new Uint8Array();
  expect(media(joined(file.subarray(0, 33), file.subarray(-12)))?.end).toBe("cut");
  expect(media(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 8, 1, 2, 3, 4, 5, 6, 0xff, 0xd9))?.end).toBe("cut");
});

test("a streamed WAV of unknown length is open, however much of it has arrived", () => {
  const samples = fc.uint8Array({ maxLength: 60 });
  const property = fc.property(fc.constantFrom(...UNKNOWN), samples, (unknown, sound) => {
    expectSame(media(joined(wavHeader(unknown, unknown), sound))?.end, "open");
  });
  fc.assert(property, { numRuns: 300 });
});

test("a streamed WAV whose header counts only itself is open, and whole only without samples", () => {
  const header = wavHeader(36, 0);
  expect(media(header)?.end).toBe("whole");
  expect(media(joined(header, new Uint8Array(100)))?.end).toBe("open");
  expect(media(header.subarray(0, 40))?.end).toBe("cut");
});

test("formats without an end marker are open, and other data is not recognized", () => {
  const letters = (characters: string) => padded(...Array.from(characters, (character) => character.charCodeAt(0)));
  expect(media(letters("fLaC"))).toEqual({ type: "audio/flac", end: "open" });
  expect(media(letters("OggS"))).toEqual({ type: "audio/ogg", end: "open" });
  expect(media(letters("ID3"))).toEqual({ type: "audio/mpeg", end: "open" });
  expect(media(padded(0xff, 0xfb))).toEqual({ type: "audio/mpeg", end: "open" });
  for (const other of [
    letters("<!doctype html>"),
    letters("{}"),
    letters("GIF89a"),
    letters("RIFF"),
    padded(0xff, 0xf1),
    padded(),
  ]) {
    expect(media(other)).toBeNull();
  }
});

test("arbitrary bytes never make it throw", () => {
  const starts = fc.constantFrom(
    [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
    [0xff, 0xd8, 0xff],
    [0x52, 0x49, 0x46, 0x46, 0, 0, 0, 0, 0x57, 0x41, 0x56, 0x45],
    [],
  );
  const property = fc.property(starts, fc.uint8Array({ maxLength: 100, size: "max" }), (start, rest) => {
    const found = media(Uint8Array.from([...start, ...rest]));
    expectSame(found === null || ["whole", "open", "cut"].includes(found.end), true);
  });
  fc.assert(property, { numRuns: 3_000 });
});
