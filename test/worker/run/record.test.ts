import { expect, test } from "vitest";
import type { Spent } from "../../../durable-objects/tenant-protocol.ts";
import { record } from "../../../worker/run/record.ts";

const WRITTEN_MS_MAX = 1_000;
const SLOW_MS = 300;

/** A request that held slots for `gpuMs`; its Tenant answers with `answer`. */
function admitted(gpuMs: number, answer: () => Promise<void>) {
  const told: Spent[] = [];
  const held: Promise<unknown>[] = [];
  const tell = (...call: unknown[]): Promise<void> => {
    told.push(call[5] as Spent);
    return answer();
  };
  const request = {
    env: { TENANT: { getByName: () => ({ record: tell }) } },
    ctx: { waitUntil: (work: Promise<unknown>) => held.push(work) },
    caller: { tenant: "ten", key: "key" },
    trace: { id: "req", clientId: null, startedAt: 7, gpuMs },
    ask: { service: { id: "s", config: { kind: "tts", defaults: {} } }, as: "run", fields: null, query: "" },
  } as unknown as Parameters<typeof record>[0];
  const end = async (): Promise<number> => {
    const from = performance.now();
    await record(request, "succeeded", 200, [], "all", { bytes: 3, results: 2 });
    return performance.now() - from;
  };
  return { end, told, held };
}

const slowly = (): Promise<void> => scheduler.wait(SLOW_MS);

test("GPU time is recorded before the answer is sent", async () => {
  const { end, told } = admitted(50, slowly);
  expect(await end()).toBeGreaterThanOrEqual(SLOW_MS - 1);
  const opened = { clientId: null, service: "s", key: "key", costMilli: 1_000, at: 7 };
  expect(told).toEqual([{ gpuMs: 50, bytes: 3, results: 2, reason: null, admitted: opened }]);
});

test("a request that used no GPU time does not wait for the record", async () => {
  const { end, held } = admitted(0, slowly);
  expect(await end()).toBeLessThan(SLOW_MS);
  await Promise.all(held);
});

test("a Tenant that does not answer delays the request for about a second and no longer than two", async () => {
  const { end } = admitted(50, () => new Promise(() => {}));
  const ms = await end();
  expect(ms).toBeGreaterThanOrEqual(WRITTEN_MS_MAX - 1);
  expect(ms).toBeLessThan(2 * WRITTEN_MS_MAX);
});

test("a record that a Tenant fails to take is sent again", async () => {
  let failures = 2;
  const { end, told } = admitted(50, async () => {
    if (failures-- > 0) throw new Error("restarted");
  });
  await end();
  expect(told).toHaveLength(3);
  expect(new Set(told.map((spent) => JSON.stringify(spent))).size).toBe(1);
});
