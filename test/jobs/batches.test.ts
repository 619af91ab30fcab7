/** Batches: many jobs under one id, accepted as a whole or not at all. */
import { expect, test } from "vitest";
import { doorway, errorOf, expectOk, picture, refusalOf } from "../contract/doorway.ts";
import type { JobShown } from "./shown.ts";

const door = doorway();
const job = (seed: number, more: object = {}) => ({ service: "portrait", input: picture({ seed, ...more }) });

interface Batch {
  id: string;
  status: string;
  progress: number;
  counts: Record<string, number>;
  jobs: string[];
  finished_at: string | null;
}

async function batch(id: string, key: string): Promise<Batch> {
  return JSON.parse(expectOk(await door.ask(`/v1/batches/${id}`, { key })).text) as Batch;
}

test("a batch is accepted at once, its jobs are ordinary jobs, and it ends with the last of them", async () => {
  const key = await door.key({ limits: { requests_per_minute: 60, burst: 3 } });
  const jobs = Array.from({ length: 40 }, (_, i) => job(i));
  const answer = await door.ask("/v1/batches", { json: { jobs }, key });
  expect(answer.status, answer.text).toBe(202);
  const made = JSON.parse(answer.text) as Batch;
  expect(answer.header("location")).toBe(`/v1/batches/${made.id}`);
  expect(made.jobs).toHaveLength(40);
  for (let i = 0; (await batch(made.id, key)).finished_at === null; i++) {
    expect(i).toBeLessThan(200);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(await batch(made.id, key)).toMatchObject({ status: "completed", progress: 1, counts: { succeeded: 40 } });
  const one = JSON.parse(expectOk(await door.ask(`/v1/jobs/${made.jobs[3]}`, { key })).text) as JobShown;
  expect(one).toMatchObject({ status: "succeeded", batch: made.id });
  expect(refusalOf(await door.ask(`/v1/batches/${made.id}`))).toBe("404 not_found not_found not_found");
});

test("a batch with an invalid job, too many jobs or too little quota is refused as a whole", async () => {
  const key = await door.key({ limits: { jobs_waiting: 5, results_per_month: 4 } });
  const refused = async (jobs: unknown[]): Promise<string> => {
    const answer = await door.ask("/v1/batches", { json: { jobs }, key });
    const { reason, param } = errorOf(answer);
    return `${answer.status} ${reason} ${param}`;
  };
  expect(await refused([job(1), job(2, { width: 9_000 })])).toBe("400 invalid_field jobs.1.input.width");
  expect(await refused([])).toBe("400 invalid_field jobs");
  expect(await refused(Array.from({ length: 1_001 }, (_, i) => job(i)))).toBe("400 invalid_field jobs");
  expect(await refused(Array.from({ length: 5 }, (_, i) => job(i)))).toBe("429 quota null");
  const many = await door.key({ limits: { jobs_waiting: 5 } });
  const crowd = await door.ask("/v1/batches", {
    json: { jobs: Array.from({ length: 6 }, (_, i) => job(i)) },
    key: many,
  });
  expect(refusalOf(crowd)).toBe("429 rate_limited rate_limit_error concurrency");
  expect(errorOf(crowd)).toMatchObject({
    retryable: false,
    message: "This batch has 6 jobs; the limit is 5. Send smaller batches.",
  });
  expect(crowd.header("x-should-retry")).toBe("false");
  expect(Number(crowd.header("retry-after"))).toBeGreaterThanOrEqual(86_400);
  const none = JSON.parse((await door.ask("/v1/jobs", { key: many })).text) as { data: unknown[] };
  expect(none.data).toEqual([]);
  // Refused batches cost nothing.
  expect((await door.ask("/v1/batches", { json: { jobs: [job(1), job(2), job(3), job(4)] }, key })).status).toBe(202);
});

test("a batch repeated with the same Idempotency-Key is created once", async () => {
  const headers = { "idempotency-key": "a batch" };
  const json = { jobs: [job(1), job(2)] };
  const first = await door.ask("/v1/batches", { json, headers });
  const again = await door.ask("/v1/batches", { json, headers });
  expect((JSON.parse(again.text) as Batch).id).toBe((JSON.parse(first.text) as Batch).id);
  expect(again.header("idempotent-replayed")).toBe("true");
});
