import { afterAll, beforeAll, expect, test } from "vitest";
import { PICTURE, secondsOfWav, sizeOfPng, SOUND } from "../../local/demo.ts";
import { type Portico, startPortico } from "../support/portico.ts";
import { raw } from "../support/raw.ts";

let portico: Portico;

beforeAll(async () => {
  portico = await startPortico({ child: true });
});
afterAll(() => portico.stop());

const post = (key: string, { path, body }: { path: string; body: object }) =>
  raw(portico.url, {
    method: "POST",
    target: path,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });

test("the front door delivers a complete picture and a complete sound", async () => {
  const key = await portico.key();
  const picture = await post(key, PICTURE);
  expect(picture).toMatchObject({ status: 200, whole: true });
  const { images }: { images: string[] } = JSON.parse(picture.text);
  expect(sizeOfPng(Buffer.from(images[0] ?? "", "base64"))).toEqual({ width: 512, height: 512 });
  const sound = await post(key, SOUND);
  expect(sound).toMatchObject({ status: 200, whole: true });
  expect(secondsOfWav(sound.body)).toBeGreaterThan(1);
});

test("keys, listings and cached answers survive kill -9 of the runtime", async () => {
  const key = await portico.key();
  const first = await post(key, PICTURE);
  expect(first.header("cache-status")).toContain("fwd=miss");
  await portico.kill9();
  await expect(post(key, PICTURE)).rejects.toThrow();
  await portico.restart();
  const again = await post(key, PICTURE);
  expect(again.header("cache-status")).toContain("hit");
  expect(again.body.equals(first.body)).toBe(true);
  expect(await portico.admin("GET", "/cards")).toMatchObject({ data: [{ state: "active" }, {}, {}, {}, {}, {}] });
});
