/** kill -9 at each stage of a job: it still ends once, with one result. */
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { type JobShown, over, show, submitted } from "./shown.ts";

const RUN_MS = 1_000;
const SLOTS = 12;
/** A lease life, the drain, the check for lost jobs, and time for a loaded machine. */
const OVER_MS_MAX = 180_000;
const HOOK_MS_MAX = 280_000;

const door = doorway({
  child: true,
  services: { portrait: { drain: { max_s: 3 } } },
  park: { service: { service_ms: RUN_MS } },
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const from = Date.now(); !(await holds());) {
    if (Date.now() - from > 20_000) throw new Error("the moment did not come");
    await delay(1);
  }
}

const handIn = (key: string) => submitted(door, { service: "portrait", input: picture() }, key);
const pause = (what: "pause" | "resume") => door.portico.admin("POST", `/services/portrait/${what}`);

/** Submits a job and waits until the moment of the kill; returns the job's id. */
const MOMENTS: Record<string, (key: string) => Promise<string>> = {
  "as soon as it was taken": handIn,
  "in line, before its claim": async (key) => {
    await pause("pause");
    const id = await handIn(key);
    await until(async () => (await show(door, id, "", key)).waiting_on === "paused");
    await delay(500);
    return id;
  },
  "on its card": async (key) => {
    await pause("resume");
    const before = door.starts();
    const id = await handIn(key);
    await until(() => door.starts() > before);
    return id;
  },
  "when its card has finished, before it is stored": async (key) => {
    const before = door.park.counts().done;
    const id = await handIn(key);
    await until(() => door.park.counts().done > before);
    return id;
  },
  "when it is stored, before all have heard of its end": async (key) => {
    const id = await handIn(key);
    await until(async () => (await show(door, id, "", key)).status === "succeeded");
    return id;
  },
};

const jobs = new Map<string, JobShown>();
let key: string;

beforeAll(async () => {
  key = await door.key({ limits: { concurrent: SLOTS } });
  const ids = new Map<string, string>();
  for (const [moment, handedIn] of Object.entries(MOMENTS)) {
    ids.set(moment, await handedIn(key));
    await door.portico.kill9();
    await door.portico.restart();
  }
  for (const [moment, id] of ids) jobs.set(moment, await over(door, id, key, OVER_MS_MAX));
}, HOOK_MS_MAX);

test.each(Object.keys(MOMENTS))("killed %s, a job succeeds with one result", async (moment) => {
  const job = jobs.get(moment);
  expect(job).toMatchObject({ status: "succeeded", error: null });
  expect(job?.results).toHaveLength(1);
  expect(await show(door, job?.id ?? "", "", key)).toMatchObject({ finished_at: job?.finished_at });
});

test("no card exceeds its slots, and at most twice as many runs start as there are jobs", () => {
  const { over: beyond, starts } = door.park.counts();
  expect(beyond).toBe(0);
  const kills = Object.keys(MOMENTS).length;
  expect(starts).toBeGreaterThanOrEqual(kills);
  expect(starts).toBeLessThanOrEqual(2 * kills);
});
