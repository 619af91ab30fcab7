/** The Tenant's usage under repeats, crashes, evictions, deletion and aging. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Charge, Spent, UsageQuery, UsageRow } from "../../durable-objects/tenant-protocol.ts";
import { NO_USE, sum, useOf } from "../../durable-objects/usage.ts";
import { eventually, evict, fresh, passTime } from "./objects.ts";
import { makePool } from "./pools.ts";

const LIMITS = { requestsPerMinute: 1e6, burst: 1e6, ownRate: false, quota: { results: null, costMilli: null } };
const DAY_MS = 86_400_000;
const ALL: UsageQuery = { from: "0000", to: "9999", by: ["day", "service", "key"], after: null, limit: 1_000 };

/** A tenant whose object can be crashed at any time. */
class Mortal {
  readonly #id = fresh("tenant");
  stub = env.TENANT.getByName(this.#id);

  async crash(): Promise<void> {
    await expect(runInDurableObject(this.stub, (_, state) => state.abort("crash"))).rejects.toThrow("crash");
    this.stub = env.TENANT.getByName(this.#id);
  }

  admit(id: string, { service = "s", key = "k", results = 1 } = {}) {
    const counts = { results, costMilli: results * 1_000 };
    return this.stub.admit({ id, clientId: null, service, key, fingerprint: null, hits: false, ...counts }, LIMITS);
  }

  end(id: string, charge: Charge, took: Partial<Spent>): Promise<void> {
    const spent: Spent = { gpuMs: 0, bytes: 0, results: 0, reason: null, admitted: null, ...took };
    return this.stub.record(id, charge === "nothing" ? "failed" : "succeeded", 200, [], charge, spent);
  }

  page(query: Partial<UsageQuery> = {}) {
    return this.stub.usage({ ...ALL, ...query });
  }

  async totals() {
    return (await this.page()).totals;
  }
}

const batchOf = (more: Partial<UsageRow>): UsageRow[] => [
  { ...NO_USE, day: "2026-01-01", service: "s", key: "k", ...more },
];

const today = () => new Date().toISOString().slice(0, 10);

test("an end counts once, under its service and key, on the day of its admission, even if reported twice", async () => {
  const tenant = new Mortal();
  passTime(0);
  const day = today();
  const ids = [fresh("req"), fresh("req"), fresh("req")];
  for (const [i, id] of ids.entries()) await tenant.admit(id, { service: i === 2 ? "t" : "s", key: "k1", results: 2 });
  passTime(DAY_MS);
  for (let twice = 0; twice < 2; twice++) {
    await tenant.end(ids[0] ?? "", "all", { gpuMs: 1_500, bytes: 10, results: 2 });
    await tenant.end(ids[1] ?? "", "nothing", { gpuMs: 20, reason: "origin_reset" });
    await tenant.end(ids[2] ?? "", "all", { gpuMs: 30, bytes: 5, results: null });
  }
  const s = {
    requests: 2,
    hits: 0,
    results: 2,
    bytes: 10,
    gpuMs: 1_520,
    costMilli: 2_000,
    refusals: { origin_reset: 1 },
  };
  const t = { requests: 1, hits: 0, results: 2, bytes: 5, gpuMs: 30, costMilli: 2_000, refusals: {} };
  const { rows, totals } = await tenant.page();
  expect(rows).toEqual([
    { day, service: "s", key: "k1", ...s },
    { day, service: "t", key: "k1", ...t },
  ]);
  expect(totals).toMatchObject(sum(s, t));
});

test("an acknowledged end survives a crash right after it and is not counted again", async () => {
  const tenant = new Mortal();
  const id = fresh("req");
  await tenant.admit(id);
  await tenant.end(id, "all", { gpuMs: 70, results: 1 });
  await tenant.crash();
  expect(await tenant.totals()).toMatchObject({ requests: 1, gpuMs: 70 });
  await tenant.end(id, "all", { gpuMs: 70, results: 1 });
  expect(await tenant.totals()).toMatchObject({ requests: 1, gpuMs: 70 });
});

test("a finished run counts although a crash lost its admission, unless it is older than a day", async () => {
  const tenant = new Mortal();
  const id = fresh("req");
  await tenant.admit(id);
  await tenant.crash();
  const admitted = { clientId: null, service: "s", key: "k", costMilli: 1_000, at: Date.now() };
  await tenant.end(id, "all", { gpuMs: 70, results: 1, admitted });
  await tenant.end(id, "all", { gpuMs: 70, results: 1, admitted });
  await tenant.end(fresh("req"), "all", { gpuMs: 1, admitted: { ...admitted, at: Date.now() - DAY_MS - 1 } });
  expect(await tenant.totals()).toMatchObject({ requests: 1, results: 1, gpuMs: 70 });
  expect(await tenant.stub.request(id)).toMatchObject({ state: "succeeded", service: "s" });
});

test("a batch of counts is added once, even if it is repeated after a crash", async () => {
  const tenant = new Mortal();
  const rows = batchOf({ requests: 3, hits: 2, bytes: 9, refusals: { requests: 1 } });
  await tenant.stub.tally("batch", rows);
  await tenant.stub.tally("batch", rows);
  await tenant.crash();
  await tenant.stub.tally("batch", rows);
  await tenant.stub.tally("another", rows);
  expect(await tenant.totals()).toMatchObject({ requests: 6, hits: 4, bytes: 18, refusals: { requests: 2 } });
});

test("a lost request counts as an internal failure", async () => {
  const pool = await makePool();
  const tenant = new Mortal();
  passTime(0);
  await tenant.admit(fresh("req"), { service: pool.service });
  await eventually(async () => expect((await tenant.page()).rows).toEqual([]));
  for (const ms of [60_001, 60_000]) {
    passTime(ms);
    await eventually(async () => expect(await runDurableObjectAlarm(tenant.stub)).toBe(true));
  }
  expect(await tenant.totals()).toMatchObject({ requests: 1, gpuMs: 0, refusals: { internal: 1 } });
});

type Step = { do: "admit" | "end" | "end unheard" | "tally" | "tally unheard"; which: number } | { do: "crash" };
const which = fc.nat({ max: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constantFrom("admit", "end", "end unheard", "tally", "tally unheard"), which }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("crash") }) },
);

const took = (n: number): Partial<Spent> => ({
  gpuMs: 10 ** n,
  bytes: n,
  results: n,
  reason: n % 2 === 0 ? null : "origin_reset",
});
const charge = (n: number): Charge => (n % 2 === 0 ? "all" : "nothing");

test("repeats, crashes and late reports never distort the sums", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const tenant = new Mortal();
      const at = Date.now();
      const [ended, batches] = [new Set<number>(), new Set<number>()];
      const admitted = { clientId: null, service: "s", key: "k", costMilli: 1_000, at };
      const end = (n: number) => {
        ended.add(n);
        return tenant.end(`${n}`, charge(n), { ...took(n), admitted });
      };
      const tally = (n: number) => {
        batches.add(n);
        return tenant.stub.tally(`${n}`, batchOf({ requests: 1, hits: 10 ** n }));
      };
      for (const one of steps) {
        if (one.do === "crash") await tenant.crash();
        else if (one.do === "admit") await tenant.admit(`${one.which}`);
        else if (one.do === "end") await end(one.which);
        else if (one.do === "tally") await tally(one.which);
        // The reply may be lost in a crash.
        else if (one.do === "end unheard") end(one.which).catch(() => undefined);
        else if (one.do === "tally unheard") tally(one.which).catch(() => undefined);
      }
      // Callers that received no reply repeat the call.
      for (const n of ended) await end(n);
      for (const n of batches) await tally(n);
      const truth = [
        ...Array.from(ended, (n) =>
          useOf(
            { gpuMs: 0, bytes: 0, results: 0, reason: null, admitted, ...took(n) },
            1,
            charge(n) === "all" ? 1_000 : 0,
          ),
        ),
        ...Array.from(batches, (n) => ({ ...NO_USE, requests: 1, hits: 10 ** n })),
      ].reduce(sum, NO_USE);
      expect(await tenant.totals()).toMatchObject(truth);
      await tenant.crash();
      expect(await tenant.totals()).toMatchObject(truth);
    }),
    { numRuns: 40 },
  );
});

test("pages are contiguous, and each contains the totals of all rows", async () => {
  const tenant = new Mortal();
  const days = ["2026-01-01", "2026-01-02", "2026-01-03"];
  const rows = days.flatMap((day) =>
    ["s", "t"].flatMap((service) =>
      ["", "k"].map((key) => ({ ...NO_USE, day, service, key, requests: 1, bytes: 2, refusals: { quota: 3 } })),
    ),
  );
  await tenant.stub.tally("batch", rows);
  for (const by of [ALL.by, ["day"], ["service"], ["key"], ["service", "key"]] as const) {
    const whole = (await tenant.page({ by: [...by] })).rows;
    const found: UsageRow[] = [];
    for (let more = true; more;) {
      const page = await tenant.page({ by: [...by], after: found.at(-1) ?? null, limit: 1 });
      expect(page.totals).toMatchObject({ requests: 12, bytes: 24, refusals: { quota: 36 } });
      found.push(...page.rows);
      more = page.rows.length > 0;
    }
    expect(found).toEqual(whole);
    expect(found.map((row) => row.refusals["quota"])).toEqual(found.map((row) => 3 * row.requests));
  }
  expect((await tenant.page()).rows).toEqual(rows.toSorted((a, b) => a.day.localeCompare(b.day)));
  const before = { day: "2025-01-01", service: "", key: "" };
  expect((await tenant.page({ from: "2026-01-03", after: before })).rows).toHaveLength(4);
  const some = await tenant.page({ from: "2026-01-02", to: "2026-01-02", by: ["service"] });
  expect(some.rows.map(({ day, service, requests }) => [day, service, requests])).toEqual([
    ["", "s", 2],
    ["", "t", 2],
  ]);
  expect(some.totals).toMatchObject({ requests: 4 });
});

const countRows = (tenant: Mortal, table: string) =>
  runInDurableObject(
    tenant.stub,
    (_, state) => state.storage.sql.exec<{ count: number }>(`SELECT count(*) AS count FROM ${table}`).one().count,
  );

test("usage is kept for 400 days and removed in steps by the Tenant's alarm", async () => {
  const tenant = new Mortal();
  passTime(0);
  await tenant.stub.tally("batch", batchOf({ day: today(), requests: 1, refusals: { quota: 1 } }));
  await runInDurableObject(tenant.stub, (_, state) => {
    state.storage.sql.exec(`
      WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 6000)
      INSERT INTO usage SELECT '2020-01-01', 's', n, 1, 0, 0, 0, 0, 0 FROM numbers`);
  });
  await eventually(async () => expect(await runDurableObjectAlarm(tenant.stub)).toBe(true));
  expect(await countRows(tenant, "usage")).toBe(1_001);
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(true);
  expect(await countRows(tenant, "usage")).toBe(1);
  passTime(400 * DAY_MS);
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(true);
  expect(await countRows(tenant, "batches")).toBe(0);
  expect(await tenant.totals()).toMatchObject({ requests: 1 });
  passTime(DAY_MS);
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(true);
  for (const table of ["usage", "refusals"]) expect(await countRows(tenant, table)).toBe(0);
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(false);
});

test("late reports do not restore a deleted tenant's usage, and a day later nothing is stored", async () => {
  const tenant = new Mortal();
  passTime(0);
  const id = fresh("req");
  await tenant.admit(id);
  await tenant.stub.tally("before", batchOf({ requests: 1 }));
  for (let twice = 0; twice < 2; twice++) await tenant.stub.forget();
  const admitted = { clientId: null, service: "s", key: "k", costMilli: 1_000, at: Date.now() };
  const late = async (): Promise<void> => {
    await tenant.end(id, "all", { gpuMs: 5, admitted });
    await tenant.stub.tally("after", batchOf({ requests: 1 }));
    expect(await tenant.totals()).toMatchObject({ requests: 0 });
    expect(await tenant.stub.request(id)).toBeNull();
  };
  await late();
  await evict(tenant.stub);
  await late();
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(true);
  await late();
  passTime(DAY_MS);
  expect(await runDurableObjectAlarm(tenant.stub)).toBe(true);
  const left = await runInDurableObject(tenant.stub, (_, { storage }) => [
    ...storage.sql.exec("SELECT name FROM sqlite_master WHERE name IN ('requests', 'usage', 'refusals', 'batches')"),
    ...storage.kv.list(),
  ]);
  expect(left).toEqual([]);
});
