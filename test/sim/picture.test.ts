import { describe, expect, it } from "vitest";
import { decodePng, imageSize } from "../../sim/image-file.ts";
import { drawPicture } from "../../sim/picture.ts";
import { encodePng } from "../../sim/png.ts";
import { readPng } from "./png.ts";

const LARGEST_BYTES = 1_500_000;

function draw(prompt: string, seed = 1, width = 96, height = 64, steps = 8): Buffer {
  return encodePng(drawPicture({ prompt, seed, width, height, steps }), `${prompt}\nSeed: ${seed}`);
}

/** Mean difference between two pictures, in shades per channel. */
function distance(a: Buffer, b: Buffer): number {
  const [left, right] = [readPng(a).pixels, readPng(b).pixels];
  return left.reduce((sum, value, i) => sum + Math.abs(value - (right[i] ?? 0)), 0) / left.length;
}

const PROMPTS = [
  "sea",
  "forest",
  "city",
  "galaxy",
  "flame",
  "desert",
  "flowers",
  "marble",
  "mountains",
  "portrait of a woman",
  "portrait of a man",
  "夜 星",
];

describe("a picture", () => {
  it.each([
    [1, 1],
    [3, 2],
    [7, 513],
    [4096, 1],
    [1, 4096],
    [640, 360],
  ])("is a PNG of exactly %i x %i with correct checksums", (width, height) => {
    for (const prompt of PROMPTS.slice(0, width * height > 10_000 ? 3 : PROMPTS.length)) {
      expect(readPng(draw(prompt, 5, width, height))).toMatchObject({ width, height });
    }
  });

  it("decodes to exactly the pixels that were drawn", () => {
    const pixels = drawPicture({ prompt: "forest", seed: 3, width: 61, height: 47, steps: 8 });
    expect(Buffer.compare(readPng(encodePng(pixels, null)).pixels, pixels.data)).toBe(0);
  });

  it.each(PROMPTS)("is the same bytes for the same prompt, seed, size and steps: %s", (prompt) => {
    expect(draw(prompt, 42).equals(draw(prompt, 42))).toBe(true);
    expect(draw(prompt, 42).equals(draw(prompt, 43))).toBe(false);
  });

  it("differs clearly between prompts and is never one flat color", () => {
    const pictures = PROMPTS.map((prompt) => draw(prompt));
    for (const [i, a] of pictures.entries()) {
      expect(new Set(readPng(a).pixels).size).toBeGreaterThan(30);
      for (const b of pictures.slice(i + 1)) expect(distance(a, b)).toBeGreaterThan(8);
    }
  });

  it("stays below 1.5 MB at 1024 x 1024", () => {
    for (const prompt of ["galaxy", "marble", "mountain lake"]) {
      expect(draw(prompt, 1, 1024, 1024).length).toBeLessThan(LARGEST_BYTES);
    }
  });

  it("carries its parameters as Latin-1 text, or as UTF-8 if Latin-1 cannot encode them", () => {
    expect(readPng(draw("café\nin the sun")).texts).toEqual([
      { type: "tEXt", keyword: "parameters", text: "café\nin the sun\nSeed: 1" },
    ]);
    expect(readPng(draw("海边 sunset")).texts).toEqual([
      { type: "iTXt", keyword: "parameters", text: "海边 sunset\nSeed: 1" },
    ]);
  });

  it("shows the start image through, more of it with less denoising", () => {
    const under = drawPicture({ prompt: "flame", seed: 9, width: 48, height: 48, steps: 8 });
    const base = { prompt: "snowy alps", seed: 2, width: 96, height: 64, steps: 8 };
    const [none, some, most] = [0, 0.3, 0.9].map((share) =>
      encodePng(drawPicture({ ...base, under: { picture: under, share } }), null),
    );
    const target = encodePng(drawPicture({ ...base, under: { picture: under, share: 1 } }), null);
    if (!none || !some || !most) throw new Error("three pictures were drawn");
    expect(distance(some, target)).toBeLessThan(distance(none, target));
    expect(distance(most, target)).toBeLessThan(distance(some, target));
  });
});

describe("an image file that a caller sends", () => {
  it("is decoded if it is a plain PNG", () => {
    const pixels = drawPicture({ prompt: "city", seed: 1, width: 33, height: 20, steps: 4 });
    expect(decodePng(encodePng(pixels, "x"))).toEqual({ width: 33, height: 20, data: pixels.data });
  });

  it("has no pixels if it is cut or has a wrong size", () => {
    const png = draw("sea");
    expect(decodePng(png.subarray(0, png.length - 400))).toBeNull();
    const liar = Buffer.from(png);
    liar.writeUInt32BE(4_000, 16);
    expect(decodePng(liar)).toBeNull();
  });

  it.each([
    ["PNG", draw("sea", 1, 40, 30), { width: 40, height: 30 }],
    ["GIF", Buffer.from("474946383961280032000000000000000000000000000000", "hex"), { width: 40, height: 50 }],
    [
      "JPEG",
      Buffer.from(`ffd8ffe000104a46494600010100000100010000ffc000110800320028${"00".repeat(12)}`, "hex"),
      { width: 40, height: 50 },
    ],
    [
      "WebP",
      Buffer.from(`52494646000000005745425056503858${"00".repeat(8)}270000310000${"00".repeat(4)}`, "hex"),
      { width: 40, height: 50 },
    ],
    ["text", Buffer.from("certainly not an image at all"), null],
    ["nothing", Buffer.alloc(0), null],
  ])("reports its size: %s", (_, file, size) => {
    expect(imageSize(file)).toEqual(size);
  });
});
