import { afterEach, expect, test, vi } from "vitest";
import type { UsageRow } from "../../../durable-objects/tenant-protocol.ts";
import { refuse } from "../../../worker/refusal.ts";
import { count, tallied } from "../../../worker/caller/tally.ts";

const SOON_MS = 1_000;
const LOST_MS = 5_000;
const REQUESTS_MAX = 500;
const BATCHES_MAX = 32;

interface Told {
  tenant: string;
  batch: string;
  rows: UsageRow[];
}

/** An isolate's access to its tenants, and the batches they got. */
function tenants(answer: () => Promise<void> = async () => {}) {
  const told: Told[] = [];
  const held: Promise<unknown>[] = [];
  const getByName = (tenant: string) => ({
    tally: (batch: string, rows: UsageRow[]): Promise<void> => {
      told.push({ tenant, batch, rows: structuredClone(rows) });
      return answer();
    },
  });
  const env = { TENANT: { getByName } } as unknown as Parameters<typeof tallied>[0];
  const ctx = { waitUntil: (work: Promise<unknown>) => void held.push(work) };
  /** The `ctx` of a request that was cut off: its `waitUntil` work does not continue. */
  const cutOff = { waitUntil: () => {} };
  return { env, ctx, cutOff, told, held };
}

const hit = (bytes: number) => new Response(null, { headers: { "content-length": String(bytes) } });
const of = (tenant: string, key = "k") => ({ tenant, service: "s", key });

afterEach(() => vi.useRealTimers());

test("counts within a second are sent together, to each tenant its own", async () => {
  const { env, ctx, told, held } = tenants();
  count({ env, ctx }, of("a"), hit(5));
  count({ env, ctx }, of("a"), hit(7));
  count({ env, ctx }, of("a"), refuse("requests"));
  count({ env, ctx }, of("a", "other"), refuse("not_cached"));
  count({ env, ctx }, of("b"), hit(1));
  expect(held).toHaveLength(1);
  expect(told).toEqual([]);
  await held[0];
  expect(told.map(({ tenant }) => tenant)).toEqual(["a", "b"]);
  const [a, b] = told;
  expect(a?.batch).toBe(b?.batch);
  expect(a?.rows).toMatchObject([
    { service: "s", key: "k", requests: 3, hits: 2, bytes: 12, refusals: { requests: 1 } },
    { service: "s", key: "other", requests: 1, hits: 0, bytes: 0, refusals: { not_cached: 1 } },
  ]);
  expect(b?.rows).toMatchObject([{ requests: 1, hits: 1, bytes: 1, refusals: {} }]);
  count({ env, ctx }, of("a"), hit(1));
  await Promise.all(held);
  expect(told[2]?.batch).not.toBe(a?.batch);
});

test("a full batch is sent at once, and later counts go into the next batch", async () => {
  const { env, ctx, told, held } = tenants();
  for (let i = 0; i < REQUESTS_MAX + 1; i++) count({ env, ctx }, of("a"), hit(1));
  expect(told.map(({ rows }) => rows[0]?.requests)).toEqual([REQUESTS_MAX]);
  await Promise.all(held);
  expect(told.map(({ rows }) => rows[0]?.requests)).toEqual([REQUESTS_MAX, 1]);
});

test("reading the usage first sends everything that this isolate has counted", async () => {
  const { env, ctx, told, held } = tenants();
  count({ env, ctx }, of("a"), hit(1));
  await tallied(env);
  expect(told).toHaveLength(1);
  await Promise.all(held);
  expect(told).toHaveLength(1);
});

test("a batch that a tenant fails to take is sent again, under the same id", async () => {
  let failures = 2;
  const { env, ctx, told, held } = tenants(async () => {
    if (failures-- > 0) throw new Error("restarted");
  });
  count({ env, ctx }, of("a"), hit(1));
  await Promise.all(held);
  expect(told).toHaveLength(3);
  expect(new Set(told.map((one) => JSON.stringify(one))).size).toBe(1);
});

test("a batch whose request was cut off is sent by a later request", async () => {
  vi.useFakeTimers({ toFake: ["Date", "setTimeout"] });
  const { env, ctx, cutOff, told, held } = tenants();
  vi.spyOn(scheduler, "wait").mockImplementationOnce(() => new Promise(() => {}));
  count({ env, ctx: cutOff }, of("a"), hit(1));
  vi.setSystemTime(Date.now() + SOON_MS + LOST_MS);
  count({ env, ctx }, of("a"), hit(2));
  await held[0];
  expect(told.map(({ rows }) => rows[0]?.bytes)).toEqual([1]);
  vi.useRealTimers();
  await Promise.all(held);
  expect(told.map(({ rows }) => rows[0]?.bytes)).toEqual([1, 2]);
});

test("when tenants do not answer memory is bounded, and counts beyond the limit are dropped", async () => {
  const { promise: silent, resolve: answer } = Promise.withResolvers<void>();
  const { env, ctx, told, held } = tenants(() => silent);
  for (let i = 0; i < (BATCHES_MAX + 3) * REQUESTS_MAX; i++) count({ env, ctx }, of("a"), hit(1));
  expect(told).toHaveLength(BATCHES_MAX);
  answer();
  await Promise.all(held);
  count({ env, ctx }, of("a"), hit(1));
  await Promise.all(held);
  expect(told).toHaveLength(BATCHES_MAX + 1);
});
