import { env } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import { commitJobs, type Submission } from "../../../worker/jobs/submit.ts";

const IDS = ["job_laid", "job_stumbles"];

afterEach(() => {
  vi.restoreAllMocks();
});

async function layOne(): Promise<never> {
  await env.RESULTS.put("jobs/job_laid/input", "a tenant's own words");
  throw new Error("R2 stumbles");
}

/** Submits a batch whose second input cannot be stored. */
async function stumbling(of: object): Promise<unknown> {
  const handing = { env: { ...env, ...of }, caller: { tenant: "ten_a" }, once: null } as unknown as Submission;
  return commitJobs(handing, null, IDS, layOne).catch(String);
}

function tenantWith(record: () => Promise<void>): object {
  return { TENANT: { getByName: () => ({ record }) } };
}

const inputs = async () => (await env.RESULTS.list({ prefix: "jobs/" })).objects.map(({ key }) => key);

test("a submission that fails leaves no input in R2", async () => {
  expect(await stumbling({})).toBe("Error: R2 stumbles");
  expect(await inputs()).toEqual([]);
});

test("a submission whose cost cannot be given back leaves no input either", async () => {
  const lost = tenantWith(() => Promise.reject(new Error("the Tenant is lost")));
  expect(await stumbling(lost)).toBe("Error: the Tenant is lost");
  expect(await inputs()).toEqual([]);
});

test("a store that fails to delete inputs does not prevent the cost from being given back", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const record = vi.fn(() => Promise.resolve());
  const RESULTS = { delete: () => Promise.reject(new Error("R2 stumbles")) };
  expect(await stumbling({ ...tenantWith(record), RESULTS })).toBe("Error: R2 stumbles");
  expect(record).toHaveBeenCalledTimes(2);
});
