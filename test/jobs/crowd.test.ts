/** Many jobs of three tenants on twelve slots, counted at the cards: each runs once, and tenants share equally. */
import { expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { over } from "./shown.ts";

const TENANTS = 3;
const JOBS_EACH = 50;
const SLOTS = 12;
const RUN_MS = 1_500;
const TEST_MS_MAX = 180_000;

const door = doorway({ park: { service: { service_ms: RUN_MS } } });

test(
  "150 jobs of three tenants each run once, in equal shares, and no card exceeds its slots",
  async () => {
    const keys: string[] = [];
    for (let i = 0; i < TENANTS; i++) keys.push(await door.key({ limits: { concurrent: SLOTS } }));
    door.park.reset();
    const batches = await Promise.all(
      keys.map(async (key, tenant) => {
        const jobs = Array.from({ length: JOBS_EACH }, (_, i) => ({
          service: "portrait",
          input: picture({ seed: 1_000 * tenant + i }),
        }));
        const answer = await door.ask("/v1/batches", { json: { jobs }, key });
        expect(answer.status, answer.text).toBe(202);
        return { key, ids: (JSON.parse(answer.text) as { jobs: string[] }).jobs };
      }),
    );
    for (const { key, ids } of batches)
      for (const id of ids) expect((await over(door, id, key, TEST_MS_MAX)).status).toBe("succeeded");
    const runs = door.park.runs();
    expect(runs).toHaveLength(TENANTS * JOBS_EACH);
    expect(new Set(runs.map(({ seed }) => seed)).size).toBe(TENANTS * JOBS_EACH);
    expect(door.park.counts().over).toBe(0);
    // Once all batches have arrived and until one is empty, each tenant gets a third.
    const half = runs.slice(SLOTS * 2, (TENANTS * JOBS_EACH) / 2);
    const shares = batches.map(
      (_, tenant) => half.filter(({ seed }) => Math.floor((seed ?? 0) / 1_000) === tenant).length,
    );
    for (const share of shares) expect(Math.abs(share - half.length / TENANTS)).toBeLessThanOrEqual(6);
    // `npm run bench:jobs` measures utilization, on a machine of its own.
    expect(door.park.counts().highest).toBe(SLOTS);
  },
  TEST_MS_MAX,
);

test(
  "under steady load the estimated remaining time is right within a factor of two",
  async () => {
    const key = await door.key({ limits: { concurrent: SLOTS } });
    const jobs = Array.from({ length: 60 }, () => ({ service: "portrait", input: picture() }));
    const made = await door.ask("/v1/batches", { json: { jobs }, key });
    const { jobs: ids } = JSON.parse(made.text) as { jobs: string[] };
    const last = ids.at(-1) ?? "";
    const told = JSON.parse((await door.ask(`/v1/jobs/${last}`, { key })).text) as { eta_s: number };
    const from = Date.now();
    await over(door, last, key, TEST_MS_MAX);
    const took = (Date.now() - from) / 1000;
    expect(told.eta_s).toBeGreaterThan(took / 2);
    expect(told.eta_s).toBeLessThan(took * 2);
  },
  TEST_MS_MAX,
);
