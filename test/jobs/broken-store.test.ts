/** Internal faults after a card has begun count as an attempt of the job, and a lost result is not a success. */
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { doorway } from "../contract/doorway.ts";
import { listOrigin, Origin } from "../contract/origin.ts";
import { over } from "./shown.ts";

/** A failed write is repeated several times first. */
const SLOW_MS_MAX = 60_000;
const broken = await bundle(join(import.meta.dirname, "broken-store.ts"), join(ROOT, "dist", "broken-store"));
const door = doorway({ cards: [], bundle: broken.path });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/p/" });
});
beforeEach(() => {
  origin.seen.length = 0;
});
afterAll(() => origin.close());

test.each(["put", "head"])(
  "while `%s` of the store fails, a job with a single attempt fails after one start",
  async (operation) => {
    await door.ask(`/break/${operation}`);
    // Only this dialect can tell a job not to retry.
    const headers = { "x-fal-no-retry": "1" };
    const taken = await door.ask("/fal/queue/portico/pictures", { json: { prompt: "x" }, headers });
    const { request_id: id } = JSON.parse(taken.text) as { request_id: string };
    const failed = await over(door, id);
    expect(failed).toMatchObject({ status: "failed", attempts: 1, error: { reason: "internal" } });
    expect(origin.seen.filter(({ target }) => target === "/p/txt2img")).toHaveLength(1);
  },
  SLOW_MS_MAX,
);
