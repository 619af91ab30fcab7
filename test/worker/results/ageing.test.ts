import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, expect, test } from "vitest";
import type { Env } from "../../../worker/env.ts";
import { jobSpec } from "../../objects/objects.ts";
import { sweepInputs, sweepJobs } from "../../../worker/results/ageing.ts";
import worker from "../../../worker/index.ts";

const DAY_MS = 86_400_000;
const keys = async () => (await env.RESULTS.list()).objects.map(({ key }) => key);
const name = (i: number) => `inputs/${String(i).padStart(3, "0")}`;

const lost = () => Promise.reject(new Error("the Job is lost"));
const nobody = () => Promise.resolve(null);

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

test("a sweep is bounded, and the next one continues where it stopped, past objects that are too young", async () => {
  for (let i = 0; i < 50; i++) await env.RESULTS.put(name(i), "x");
  // Twenty pages of two objects: none is old enough.
  await sweepInputs(env.RESULTS, Date.now(), 2);
  expect(await (await env.RESULTS.get("ageing/inputs"))?.text()).toBe(name(39));
  // The rest is old by now; the objects that were skipped wait for the next round.
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toEqual(Array.from({ length: 40 }, (_, i) => name(i)));
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  await sweepInputs(env.RESULTS, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toEqual([]);
});

test("an input whose job was never created is removed after a day; one whose job waits stays", async () => {
  await env.JOB.getByName("job_waits").create(jobSpec("ten_a", { id: "job_waits" }));
  for (const id of ["job_left", "job_waits"]) await env.RESULTS.put(`jobs/${id}/input`, "x");
  await sweep(Date.now() + DAY_MS - 60_000);
  expect(await keys()).toEqual(["jobs/job_left/input", "jobs/job_waits/input"]);
  await sweep(Date.now() + DAY_MS + 60_000);
  expect(await keys()).toEqual(["jobs/job_waits/input"]);
});

test("a sweep of job inputs continues past Jobs that do not answer, and where it stopped", async () => {
  for (let i = 0; i < 50; i++) await env.RESULTS.put(`jobs/${i + 10}/input`, "x");
  const JOB = { getByName: (id: string) => ({ owner: id === "10" ? lost : nobody }) } as unknown as Env["JOB"];
  await sweepJobs({ ...env, JOB }, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toHaveLength(12);
  expect(await (await env.RESULTS.get("ageing/jobs"))?.text()).toBe("jobs/49/input");
  await sweepJobs({ ...env, JOB }, Date.now() + 2 * DAY_MS, 2);
  expect(await keys()).toEqual(["jobs/10/input"]);
});
