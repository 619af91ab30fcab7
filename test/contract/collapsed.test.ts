/** Identical requests in flight get the same answer, also when it is an error of the origin. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway } from "./doorway.ts";
import { type Answering, listOrigin, Origin } from "./origin.ts";

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "own", { kind: "http", route: "/own/", cache: { enabled: true } });
});
afterAll(() => origin.close());

/** Sends two identical requests, the second while the first one's run is under way. */
async function both(name: string, answering: Answering): Promise<Answer[]> {
  const letGo = Promise.withResolvers<void>();
  origin.seen.length = 0;
  origin.answering = (res, seen) => void letGo.promise.then(() => answering(res, seen));
  const first = door.ask("/own/x", { json: { name } });
  await expect.poll(() => origin.seen.length).toBe(1);
  const second = door.ask("/own/x", { json: { name } });
  const queued = async () => {
    const status = await door.ask("/cluster/status", { key: null });
    const { services }: { services: { id: string; queued: number }[] } = JSON.parse(status.text);
    return services.find(({ id }) => id === "own")?.queued;
  };
  await expect.poll(queued, { timeout: 5_000 }).toBe(1);
  letGo.resolve();
  return Promise.all([first, second]);
}

test("an HTML 404 page is as harmless to the follower as to the leader", async () => {
  const page = "<script>alert(1)</script>";
  const answers = await both("page", (res) => res.writeHead(404, { "content-type": "text/html" }).end(page));
  expect(answers.map((answer) => answer.header("cache-status"))).toContain("portico; fwd=miss; collapsed");
  for (const answer of answers) {
    expect([answer.status, answer.text, answer.header("content-type")]).toEqual([404, page, "text/html"]);
    expect(answer.header("content-security-policy")).toBe("sandbox");
    expect(answer.header("x-content-type-options")).toBe("nosniff");
  }
  expect(origin.seen).toHaveLength(1);
});

test("a binary 404 body reaches leader and follower unchanged", async () => {
  const bytes = Buffer.from([0xff, 0xfe, 0x00, 0x80]);
  const answers = await both("bytes", (res) => res.writeHead(404, { "content-type": "image/png" }).end(bytes));
  for (const answer of answers) expect(answer.body.equals(bytes)).toBe(true);
});
