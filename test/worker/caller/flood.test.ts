import { expect, test } from "vitest";
import { isFlood } from "../../../worker/caller/flood.ts";

/** A binding that allows `limit` calls. */
function binding(limit: number) {
  const asked = { times: 0 };
  const FLOOD = {
    limit: () => {
      asked.times++;
      return Promise.resolve({ success: asked.times <= limit });
    },
  };
  return { asked, env: { FLOOD } };
}

test("one hit in sixteen asks the binding", async () => {
  const { env, asked } = binding(1_000);
  for (let i = 0; i < 1_600; i++) expect(await isFlood(env, "often", (i % 160) / 160)).toBe(false);
  expect(asked.times).toBe(100);
});

test("a key that the binding refuses is refused without asking for a moment, and no other key is", async () => {
  const { env, asked } = binding(2);
  for (let i = 0; i < 2; i++) expect(await isFlood(env, "flooding", 0)).toBe(false);
  expect(await isFlood(env, "flooding", 0)).toBe(true);
  for (let i = 0; i < 100; i++) expect(await isFlood(env, "flooding", 0.99)).toBe(true);
  expect(asked.times).toBe(3);
  expect(await isFlood(env, "another", 0.99)).toBe(false);
  await scheduler.wait(1_100);
  expect(await isFlood(env, "flooding", 0.99)).toBe(false);
});
