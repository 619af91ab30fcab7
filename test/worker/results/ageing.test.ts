import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, expect, test } from "vitest";
import { sweepInputs } from "../../../worker/results/ageing.ts";
import worker from "../../../worker/index.ts";

const DAY_MS = 86_400_000;
const keys = async () => (await env.RESULTS.list()).objects.map(({ key }) => key);
const name = (i: number) => `inputs/${String(i).padStart(3, "0")}`;

const sweep = (scheduledTime: number) =>
  worker.scheduled(createScheduledController({ scheduledTime: new Date(scheduledTime) }), env);

beforeEach(async () => {
  await env.RESULTS.delete(await keys());
});

test("the hourly sweep removes spooled bodies older than a day, and nothing else", async () => {
  for (const key of ["inputs/left", "results/kept", "inputs-of-another-kind"]) await env.RESULTS.put(key, "x");
  await sweep(Date.now() + DAY_MS - 60_000);
  expect(await keys()).toEqual(["inputs-of-another-kind", "inputs/left", "results/kept"]);
  await sweep(Date.now() + DAY_MS + 60_000);
  expect(await keys()).toEqual(["inputs-of-another-kind", "results/kept"]);
});

test("a sweep is bounded, and the next one goes on where it stopped, past what is too young to go", async () => {
  for (let i = 0; i < 50; i++) await env.RESULTS.put(name(i), "x");
  // Twenty pages of two objects: nothing is old enough.
  await sweepInputs(env.RESULTS, Date.now(), 2);
  expect(await (await env.RESULTS.get("ageing/inputs"))?.text()).toBe(name(39));
  // The rest is old by now; what was passed over waits for the round after.
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toEqual(Array.from({ length: 40 }, (_, i) => name(i)));
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toEqual([]);
});
