import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { findEdgeCopy, forgetEdgeCopy, readThroughEdge } from "../../../worker/results/edge.ts";

const BASE = "https://portico.example";
const inAnHour = () => ({ expiresAt: Date.now() + 3_600_000 });

async function opened(key: string, text: string): Promise<R2ObjectBody> {
  await env.RESULTS.put(key, text);
  const object = await env.RESULTS.get(key);
  if (object === null) throw new Error("it was put just now");
  return object;
}

/** Reads the object, and waits until it is copied to the edge. */
async function read(object: R2ObjectBody): Promise<string> {
  const works: Promise<unknown>[] = [];
  const place = { base: BASE, bucket: env.RESULTS, later: (work: Promise<unknown>) => works.push(work) };
  const text = await new Response(await readThroughEdge(place, object, inAnHour())).text();
  await Promise.all(works);
  return text;
}

async function near(key: string): Promise<string | null> {
  const copy = await findEdgeCopy(BASE, key);
  return copy === null ? null : new Response(copy.body).text();
}

test("a reader leaves an edge copy for later readers", async () => {
  expect(await read(await opened("results/read", "a picture"))).toBe("a picture");
  expect(await near("results/read")).toBe("a picture");
});

test("a copy in progress during a deletion does not outlive it", async () => {
  const object = await opened("results/deleted", "a picture");
  await env.RESULTS.delete("results/deleted");
  await forgetEdgeCopy(BASE, "results/deleted");
  expect(await read(object)).toBe("a picture");
  expect(await near("results/deleted")).toBeNull();
});

test("a copy in progress during a replacement does not outlive it", async () => {
  const object = await opened("answers/replaced", "the same");
  await env.RESULTS.put("answers/replaced", "the same");
  await forgetEdgeCopy(BASE, "answers/replaced");
  await read(object);
  expect(await near("answers/replaced")).toBeNull();
});
