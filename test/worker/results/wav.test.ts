import fc from "fast-check";
import { expect, test } from "vitest";
import { asPcm, asWav, soundOf, wavHead, wavHeader } from "../../../worker/results/wav.ts";

const RATE_HZ = 24_000;

function streamOf(pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  const left = [...pieces];
  return new ReadableStream({
    pull: (controller) => {
      const piece = left.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(piece);
    },
  });
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<number[]> {
  return [...new Uint8Array(await new Response(stream).arrayBuffer())];
}

/** Splits the bytes into pieces at these places. */
function cut(bytes: Uint8Array, places: number[]): Uint8Array[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return sorted
    .slice(1)
    .map((to, i) => bytes.slice(sorted[i], to))
    .filter((piece) => piece.length > 0);
}

const places = fc.array(fc.nat(), { maxLength: 8 });
/** Does not begin like a WAV. */
const samples = fc.uint8Array({ minLength: 1, maxLength: 300 }).filter((bytes) => bytes[0] !== 0x52);

test("raw samples get a header and lose no bytes, however they are split", async () => {
  await fc.assert(
    fc.asyncProperty(samples, places, async (bytes, at) => {
      const found = await soundOf(streamOf(cut(bytes, at)));
      if (found === null) throw new Error("no sound");
      expect(found.wav).toBeNull();
      expect(await bytesOf(asWav(found, RATE_HZ))).toEqual([...wavHeader(RATE_HZ), ...bytes]);
    }),
  );
});

test("a WAV made of raw samples gives the same samples back, however it is split", async () => {
  await fc.assert(
    fc.asyncProperty(samples, places, async (bytes, at) => {
      const wav = new Uint8Array([...wavHeader(RATE_HZ), ...bytes]);
      const [one, other] = await Promise.all([soundOf(streamOf(cut(wav, at))), soundOf(streamOf(cut(wav, at)))]);
      if (one === null || other === null) throw new Error("no sound");
      expect(one.wav).toEqual({ from: 44, length: null, plain: true });
      expect(await bytesOf(asPcm(one))).toEqual([...bytes]);
      expect(await bytesOf(asWav(other, RATE_HZ))).toEqual([...wav]);
    }),
  );
});

test("bytes after the samples of a WAV with a known length are not part of the sound", async () => {
  const wav = new Uint8Array([...wavHeader(RATE_HZ), 1, 2, 3, 4, 9, 9, 9]);
  new DataView(wav.buffer).setUint32(40, 4, true);
  for (const at of [[], [45], [46, 48, 50]]) {
    const found = await soundOf(streamOf(cut(wav, at)));
    if (found === null) throw new Error("no sound");
    expect(await bytesOf(asPcm(found))).toEqual([1, 2, 3, 4]);
  }
});

test("a WAV whose samples never begin gives null, at its end or at the header's size limit", async () => {
  const endless = new Uint8Array(12 + 8 + 100_000);
  endless.set(wavHeader(RATE_HZ).subarray(0, 12));
  new DataView(endless.buffer).setUint32(16, 1_000_000, true);
  expect(await soundOf(streamOf(cut(endless, [40_000, 70_000])))).toBeNull();
  expect(await soundOf(streamOf([wavHeader(RATE_HZ).subarray(0, 30)]))).toBeNull();
});

test("an empty or very short sound is read as raw samples", async () => {
  for (const bytes of [[], [1], [0x52, 0x49, 0x46, 0x46]]) {
    const found = await soundOf(streamOf([new Uint8Array(bytes)].filter(({ length }) => length > 0)));
    if (found === null) throw new Error("no sound");
    expect(await bytesOf(asPcm(found))).toEqual(bytes);
  }
});

test("a source that fails makes the stream made from it fail", async () => {
  let pieces = 0;
  const broken = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      if (pieces++ < 3) controller.enqueue(new Uint8Array(20).fill(1));
      else controller.error(new Error("cut"));
    },
  });
  const found = await soundOf(broken);
  if (found === null) throw new Error("no sound");
  await expect(bytesOf(asWav(found, RATE_HZ))).rejects.toThrow("cut");
});

test("the header tells whether the samples are plain, and gives no length that is unknown", () => {
  expect(wavHead(wavHeader(RATE_HZ))).toEqual({ from: 44, length: null, plain: true });
  const floats = wavHeader(RATE_HZ);
  new DataView(floats.buffer).setUint16(20, 3, true);
  expect(wavHead(floats)?.plain).toBe(false);
});
