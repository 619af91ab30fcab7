/** Jobs survive kills of the runtime: each of them ends exactly once, whatever its state at the kill. */
import { expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { type JobShown, over, show, submitted } from "./shown.ts";

const SLOTS = 12;
const JOBS = 30;
const RUN_MS = 1_500;
/** A lease life, the drain, the check for lost jobs, and time for a loaded machine. */
const TEST_MS_MAX = 240_000;
const OVER_MS_MAX = 180_000;

const door = doorway({
  child: true,
  services: { portrait: { drain: { max_s: 3 } } },
  park: { service: { service_ms: RUN_MS } },
});

test(
  "jobs that sleep, wait, run or are being stored at a kill -9 each end once, and no card exceeds its slots",
  async () => {
    const key = await door.key({ limits: { concurrent: SLOTS } });
    const ids: string[] = [];
    for (let i = 0; i < JOBS; i++)
      ids.push(await submitted(door, { service: "portrait", input: picture({ seed: i }) }, key));
    const moments = [RUN_MS / 2, RUN_MS - 20];
    for (const after of moments) {
      await new Promise((resolve) => setTimeout(resolve, after));
      await door.portico.kill9();
      await door.portico.restart();
    }
    const jobs: JobShown[] = [];
    for (const id of ids) jobs.push(await over(door, id, key, OVER_MS_MAX));
    expect(jobs.map(({ status }) => status)).toEqual(ids.map(() => "succeeded"));
    for (const job of jobs) expect(job.results).toHaveLength(1);
    const counts = door.park.counts();
    expect(counts.over).toBe(0);
    // Only jobs that ran at the kill may run again.
    expect(counts.starts).toBeGreaterThanOrEqual(JOBS);
    expect(counts.starts).toBeLessThanOrEqual(JOBS + moments.length * SLOTS);
    // An ended job does not change.
    for (const job of jobs) expect(await show(door, job.id, "", key)).toMatchObject({ finished_at: job.finished_at });
  },
  TEST_MS_MAX,
);
