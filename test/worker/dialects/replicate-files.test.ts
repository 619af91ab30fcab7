import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, expect, test } from "vitest";
import { makeRoom } from "../../../worker/dialects/replicate/files.ts";
import worker from "../../../worker/index.ts";

const DAY_MS = 86_400_000;
const keys = async () => (await env.RESULTS.list()).objects.map(({ key }) => key);
const sweep = (scheduledTime: number) =>
  worker.scheduled(createScheduledController({ scheduledTime: new Date(scheduledTime) }), env);

beforeEach(async () => {
  await env.RESULTS.delete(await keys());
});

test("the hourly sweep removes files older than a day, and nothing else", async () => {
  for (const key of ["files/ten_a/1", "files/ten_b/1", "results/kept"]) await env.RESULTS.put(key, "x");
  await sweep(Date.now() + DAY_MS - 60_000);
  expect(await keys()).toHaveLength(3);
  await sweep(Date.now() + DAY_MS + 60_000);
  expect(await keys()).toEqual(["results/kept"]);
});

test("making room removes the tenant's own oldest files, and only as many as are too many", async () => {
  for (const key of ["files/ten_a/1", "files/ten_a/2", "files/ten_a/3", "files/ten_b/0"])
    await env.RESULTS.put(key, "x");
  await makeRoom(env.RESULTS, "ten_a", 4);
  expect(await keys()).toHaveLength(4);
  await makeRoom(env.RESULTS, "ten_a", 2);
  expect(await keys()).toEqual(["files/ten_a/3", "files/ten_b/0"]);
});
