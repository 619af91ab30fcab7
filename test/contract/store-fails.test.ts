/** A store that fails half of the time costs no caller an answer, and no GPU a second run. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { eventually } from "../line/caller.ts";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, targetOf } from "./doorway.ts";
import { answerImage, listOrigin, Origin } from "./origin.ts";

const REQUESTS = 40;
const LARGE_MS_MAX = 60_000;
const LARGE = 12 * 1024 * 1024;
const stumbling = await bundle(join(import.meta.dirname, "stumbling.ts"), join(ROOT, "dist", "stumbling"));
const door = doorway({ cards: [], bundle: stumbling.path });
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/p/" });
  await listOrigin(door, origin, "films", { kind: "http", route: "/f/", cache: { enabled: true } });
});
afterAll(() => origin.close());

const statusOf = (answer: Answer) => answer.header("cache-status") ?? "";

test("every answer is delivered from one run, and reports truthfully whether it is stored", async () => {
  origin.answering = answerImage;
  const told: Record<string, number> = {};
  for (let turn = 0; turn < REQUESTS; turn++) {
    const json = picture();
    const answer = expectOk(await door.ask("/p/txt2img", { json }));
    told[statusOf(answer)] = (told[statusOf(answer)] ?? 0) + 1;
    expect(origin.seen).toHaveLength(turn + 1);
    if (!statusOf(answer).endsWith("stored")) {
      expect([statusOf(answer), linksOf(answer)]).toEqual(["portico; fwd=miss", []]);
      continue;
    }
    expect(statusOf(await door.ask("/p/txt2img", { json }))).toMatch(/^portico; hit/);
    for (const url of linksOf(answer)) expectOk(await door.ask(targetOf(url), { key: null }));
  }
  const [failed = 0, tried = 0] = ((await door.ask("/health")).header("x-stumbled") ?? "").split(" of ").map(Number);
  // With three tries each, most answers are stored and some are not.
  expect(Object.keys(told).toSorted()).toEqual(["portico; fwd=miss", "portico; fwd=miss; stored"]);
  expect(failed / tried).toBeGreaterThan(0.3);
});

test(
  "a large answer is delivered even if its parts are not stored, and is a whole result or none",
  async () => {
    const body = Buffer.alloc(LARGE, "a film of the sea ");
    origin.seen.length = 0;
    origin.answering = (res) => {
      res.writeHead(200, { "content-type": "video/mp4" });
      res.end(body);
    };
    const kept: number[] = [];
    for (let turn = 0; turn < 8; turn++) {
      const answer = expectOk(await door.ask("/f/film", { json: { turn } }));
      expect(answer.body.equals(body)).toBe(true);
      const became = async () => JSON.parse((await door.ask(`/v1/requests/${answer.header("x-request-id")}`)).text);
      await eventually("it has ended", async () => (await became()).state === "succeeded");
      const { results } = await became();
      kept.push(results.length);
      for (const { url } of results)
        expect(expectOk(await door.ask(targetOf(url), { key: null })).body.equals(body)).toBe(true);
    }
    expect(origin.seen).toHaveLength(8);
    expect(new Set(kept)).toEqual(new Set([0, 1]));
  },
  LARGE_MS_MAX,
);
