/** Jobs outlive the runtime that runs them: killed in every phase of a job's life, each ends exactly once. */
import { expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { type JobShown, over, show, submitted } from "./shown.ts";

const SLOTS = 12;
const JOBS = 30;
const RUN_MS = 1_500;
/** A lease life, the drain, the look after lost jobs, and what a loaded machine takes. */
const TEST_MS_MAX = 240_000;
const OVER_MS_MAX = 180_000;

const door = doorway({
  child: true,
  services: { portrait: { drain: { max_s: 3 } } },
  park: { service: { service_ms: RUN_MS } },
});

test(
  "kill -9 with jobs asleep, in line, on cards and being stored: each ends once, and no card ran more than its slots",
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
    // What ran when it was killed may have to run again; nothing else does.
    expect(counts.starts).toBeGreaterThanOrEqual(JOBS);
    expect(counts.starts).toBeLessThanOrEqual(JOBS + moments.length * SLOTS);
    // What has ended stays as it was.
    for (const job of jobs) expect(await show(door, job.id, "", key)).toMatchObject({ finished_at: job.finished_at });
  },
  TEST_MS_MAX,
);
