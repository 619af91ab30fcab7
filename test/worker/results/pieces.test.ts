/** A truncated answer, or one with data after its end, is not complete: it has no piece or is invalid. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Ask } from "../../../worker/ask.ts";
import { pieces } from "../../../worker/results/pieces.ts";
import { joined, jpeg, png, wav, webp } from "../../pure/media-files.ts";
import { expectSame } from "../../pure/same.ts";

const KINDS = [
  { type: "image/png", files: png },
  { type: "image/jpeg", files: jpeg },
  { type: "image/webp", files: webp },
  { type: "audio/wav", files: wav },
];

const asked = (kind: "image" | "tts" | "http") => ({ as: "run", service: { config: { kind } } }) as Ask;
const answer = (type: string, bytes: Uint8Array, endKnown: boolean) => ({
  status: 200,
  headers: new Headers({ "content-type": type }),
  bytes: Uint8Array.from(bytes),
  endKnown,
});

/** The number of pieces, or null if the answer is invalid. */
function found(kind: "image" | "tts", type: string, bytes: Uint8Array, endKnown = true): number | null {
  const held = pieces(asked(kind), answer(type, bytes, endKnown));
  return "problem" in held ? null : held.length;
}

const kindOf = (type: string) => (type.startsWith("audio/") ? "tts" : "image");

test("a whole image or sound is a piece, even if the transport does not mark its end", () => {
  for (const { type, files } of KINDS) {
    const property = fc.property(files, fc.boolean(), (file, endKnown) =>
      expectSame(found(kindOf(type), type, file, endKnown), 1),
    );
    fc.assert(property, { numRuns: 200 });
  }
});

test("a file cut at any byte is invalid, even if the transport marks its end", () => {
  for (const { type, files } of KINDS) {
    const property = fc.property(files, fc.nat(), (file, at) => {
      const cut = file.subarray(0, 12 + (at % (file.length - 12)));
      expectSame(found(kindOf(type), type, cut), null, `${cut.length} of ${file.length} bytes`);
    });
    fc.assert(property, { numRuns: 1_000 });
  }
});

test("a file with data after its end, or an HTML page instead of it, is invalid", () => {
  for (const { type, files } of KINDS) {
    const property = fc.property(files, fc.uint8Array({ minLength: 2, maxLength: 20 }), (file, more) => {
      expectSame(found(kindOf(type), type, joined(file, more)), null);
    });
    fc.assert(property, { numRuns: 300 });
  }
  const page = new TextEncoder().encode("<html><body>Bad Gateway</body></html>");
  expect(found("image", "image/png", page)).toBeNull();
  expect(found("image", "text/html", page)).toBeNull();
  expect(found("image", "application/json", page)).toBeNull();
});

test("a format without an end marker is a piece only if the transport marks its end", () => {
  const mpeg = joined(Uint8Array.of(0x49, 0x44, 0x33, 4, 0, 0, 0, 0, 0, 0), new Uint8Array(40));
  expect(found("tts", "audio/mpeg", mpeg, true)).toBe(1);
  expect(found("tts", "audio/mpeg", mpeg, false)).toBe(0);
});

function jsonOf(images: Uint8Array[]): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ images: images.map((image) => image.toBase64()), info: "{}" }));
}

test("JSON that is truncated, contains a truncated image, or is followed by more data is invalid", () => {
  const property = fc.property(
    fc.array(png, { minLength: 1, maxLength: 3 }),
    fc.nat(),
    fc.nat(),
    (images, at, which) => {
      const whole = jsonOf(images);
      expectSame(found("image", "application/json", whole), images.length);
      expectSame(found("image", "application/json", whole.subarray(0, at % whole.length)), null);
      const cut = images.map((image, i) =>
        i === which % images.length ? image.subarray(0, at % image.length) : image,
      );
      expectSame(found("image", "application/json", jsonOf(cut)), null);
      expectSame(found("image", "application/json", joined(whole, jsonOf([]))), null);
    },
  );
  fc.assert(property, { numRuns: 500 });
});
