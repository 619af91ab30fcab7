/** Vercel's `ai` with `@ai-sdk/openai`, unmodified, pointed at the front door. */
import { createOpenAI, type OpenAIProvider } from "@ai-sdk/openai";
import { APICallError, generateImage, generateSpeech } from "ai";
import { expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import { sizeOf } from "./client.ts";

const door = doorway();
const provider = (): OpenAIProvider => createOpenAI({ apiKey: door.ownKey, baseURL: `${door.portico.url}/v1` });

test("generateImage returns pictures of the requested size", async () => {
  const { images } = await generateImage({
    model: provider().image("portrait"),
    prompt: "a groyne",
    size: "64x64",
    n: 2,
  });
  expect(images).toHaveLength(2);
  for (const { uint8Array } of images) expect(sizeOf(Buffer.from(uint8Array))).toEqual({ width: 64, height: 64 });
});

test("generateImage with an input image edits it", async () => {
  const model = provider().image("portrait");
  const first = await generateImage({ model, prompt: "a groyne", size: "64x64" });
  const { image } = await generateImage({
    model,
    prompt: { text: "at high tide", images: [first.image.uint8Array] },
    size: "64x64",
  });
  expect(sizeOf(Buffer.from(image.uint8Array))).toEqual({ width: 64, height: 64 });
});

test("generateSpeech returns a WAV", async () => {
  const { audio } = await generateSpeech({
    model: provider().speech("cosyvoice2"),
    text: "the tide is in",
    voice: "alloy",
    outputFormat: "wav",
  });
  expect(Buffer.from(audio.uint8Array).toString("latin1", 0, 4)).toBe("RIFF");
});

test("a refusal has its message", async () => {
  const call = generateImage({ model: provider().image("portrait"), prompt: "x", size: "9000x9000", maxRetries: 0 });
  const error: unknown = await call.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(APICallError);
  expect(error).toMatchObject({ statusCode: 400, message: expect.stringContaining("size") as string });
});
