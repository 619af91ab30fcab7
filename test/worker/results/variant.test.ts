import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, expect, test } from "vitest";
import worker from "../../../worker/index.ts";

const SHA = "ab".repeat(32);
const IMAGE = "pub_ImageImageImageImageImag";
const SOUND = "pub_SoundSoundSoundSoundSoun";

interface Seen {
  input: string;
  transform: ImageTransform;
  output: ImageOutputOptions;
}

/** A fake of the platform's image service that records what it is asked for. */
function imageService(): { images: ImagesBinding; seen: Seen[] } {
  const seen: Seen[] = [];
  const input = (stream: ReadableStream): unknown => ({
    transform: (transform: ImageTransform) => ({
      output: async (output: ImageOutputOptions) => {
        seen.push({ input: await new Response(stream).text(), transform, output });
        return { image: () => new Response("made").body };
      },
    }),
  });
  return { images: { input } as ImagesBinding, seen };
}

async function ask(target: string, images?: ImagesBinding, init: RequestInit = {}): Promise<Response> {
  const ctx = createExecutionContext();
  const bound = images === undefined ? env : { ...env, IMAGES: images };
  const answer = await worker.fetch(new Request(`https://portico.example/v1/results/${target}`, init), bound, ctx);
  const whole = new Response(answer.body === null ? null : await answer.arrayBuffer(), answer);
  await waitOnExecutionContext(ctx);
  return whole;
}

const textOf = async (answer: Response) => new TextDecoder().decode(await answer.arrayBuffer());

beforeEach(async () => {
  const customMetadata = { tenant: "ten_a", sha256: SHA, createdAt: "1", expiresAt: String(Date.now() + 3_600_000) };
  await env.RESULTS.put(`results/${IMAGE}`, "picture", { customMetadata, httpMetadata: { contentType: "image/png" } });
  await env.RESULTS.put(`results/${SOUND}`, "sound", { customMetadata, httpMetadata: { contentType: "audio/wav" } });
});

test("a variant is made from the result's own bytes, never enlarged, from R2 or from an edge copy", async () => {
  const { images, seen } = imageService();
  for (let i = 0; i < 2; i++) {
    const answer = await ask(`${IMAGE}?w=256&h=128&format=webp`, images);
    expect([answer.status, await textOf(answer)]).toEqual([200, "made"]);
    expect(answer.headers.get("content-type")).toBe("image/webp");
    expect(answer.headers.get("etag")).toBe(`"${SHA}-256x128.webp"`);
    expect(answer.headers.get("accept-ranges")).toBe("none");
    expect(answer.headers.get("repr-digest")).toBeNull();
    expect(answer.headers.get("cache-control")).toMatch(/^public, max-age=\d+, immutable$/);
  }
  const one = {
    input: "picture",
    transform: { width: 256, height: 128, fit: "scale-down" },
    output: { format: "image/webp" },
  };
  expect(seen).toEqual([one, one]);
});

test("without a format a variant keeps the image's type; a range of a variant gives the whole", async () => {
  const { images, seen } = imageService();
  const answer = await ask(`${IMAGE}?w=64`, images, { headers: { range: "bytes=0-1" } });
  expect([answer.status, await answer.text(), answer.headers.get("content-type")]).toEqual([200, "made", "image/png"]);
  expect(seen.map(({ transform }) => transform)).toEqual([{ width: 64, fit: "scale-down" }]);
});

test("a matching If-None-Match and a HEAD generate no variant", async () => {
  const { images, seen } = imageService();
  const headers = { "if-none-match": `"${SHA}-64x"` };
  expect((await ask(`${IMAGE}?w=64`, images, { headers })).status).toBe(304);
  expect((await ask(`${IMAGE}?w=128`, images, { method: "HEAD" })).headers.get("etag")).toBe(`"${SHA}-128x"`);
  expect(seen).toEqual([]);
});

async function refusal(target: string, images?: ImagesBinding): Promise<string> {
  const { error } = await (await ask(target, images)).json<{ error: { reason: string; param: string } }>();
  return `${error.reason} ${error.param}`;
}

test("an invalid or repeated parameter, a result that is no image, or no image service is 400", async () => {
  const { images, seen } = imageService();
  for (const side of ["0", "63", "65", "2112", "9999999", "-64", "64.0", "", "a"])
    expect(await refusal(`${IMAGE}?w=${side}`, images), side).toBe("invalid_field w");
  expect(await refusal(`${IMAGE}?h=1`, images)).toBe("invalid_field h");
  expect(await refusal(`${IMAGE}?w=64&w=64`, images)).toBe("invalid_field w");
  for (const format of ["gif", "svg", "PNG", ""])
    expect(await refusal(`${IMAGE}?format=${format}`, images), format).toBe("invalid_field format");
  expect(await refusal(`${SOUND}?format=png`, images)).toBe("invalid_field format");
  expect(await refusal(`${IMAGE}?h=64`)).toBe("invalid_field h");
  expect(seen).toEqual([]);
});
