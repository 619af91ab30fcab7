/** A tenant's usage, as the tenant and the operator see it. */
import { expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";

const door = doorway({ park: { servers: 1, gpus: 2 } });

interface Amounts {
  requests: number;
  hits: number;
  results: number;
  bytes: number;
  gpu_seconds: number;
  cost: number;
  refusals: Record<string, number>;
}

interface Usage {
  tenant: string;
  from: string;
  to: string;
  data: (Amounts & { day: string | null; service: string | null; key: string | null })[];
  totals: Amounts;
  next_cursor: string | null;
}

const DAY_MS = 86_400_000;
const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10);
const today = () => dayOf(Date.now());

const usageOf = ({ text }: Answer): Usage => JSON.parse(text) as Usage;
const ask = (key: string, query = "", headers: Record<string, string> = {}) =>
  door.ask(`/v1/usage${query}`, { key, headers });
const used = async (key: string, query = "") => usageOf(expectOk(await ask(key, query)));

test("a picture and a sound count results, bytes and GPU time by day, service and key", async () => {
  const tenant = await door.tenant();
  const key = await door.key({ tenant });
  const batch = expectOk(await door.paint({ batch_size: 2 }, { key }));
  const sound = expectOk(await door.speak({ text: "a sound" }, { key }));
  const usage = await used(key);
  expect(usage).toMatchObject({ tenant, from: `${today().slice(0, 8)}01`, to: today(), next_cursor: null });
  const row = { day: today(), key: expect.stringMatching(/\w/), requests: 1, hits: 0, refusals: {} };
  expect(usage.data).toMatchObject([
    { ...row, service: "cosyvoice2", results: 1, cost: 1, bytes: sound.body.length },
    { ...row, service: "portrait", results: 2, cost: 2, bytes: batch.body.length },
  ]);
  for (const { gpu_seconds } of usage.data) expect(gpu_seconds).toBeGreaterThan(0);
  expect(usage.totals).toMatchObject({
    requests: 2,
    results: 3,
    cost: 3,
    bytes: batch.body.length + sound.body.length,
  });
});

test("a hit counts as a request and a hit with its bytes, and takes no GPU time, result or cost", async () => {
  const key = await door.key();
  const json = picture();
  const first = expectOk(await door.paint(json, { key }));
  const before = (await used(key)).totals;
  for (let twice = 0; twice < 2; twice++)
    expect(expectOk(await door.paint(json, { key })).header("cache-status")).toMatch(/^portico; hit/);
  const { totals } = await used(key);
  expect(totals).toEqual({ ...before, requests: 3, hits: 2, bytes: 3 * first.body.length });
});

test("refusals are counted by reason, admitted or not", async () => {
  const key = await door.key({ limits: { requests_per_minute: 1, burst: 1 } });
  const refusals = [
    await door.paint({ width: 1e6 }, { key }),
    await door.paint({}, { key, headers: { "cache-control": "only-if-cached" } }),
    await door.ask("/sdapi/v1/options", { key }),
    await door.paint({}, { key, headers: { "x-timeout-s": "0" } }),
  ];
  expect(refusals.map(({ status }) => status)).toEqual([400, 504, 404, 400]);
  expectOk(await door.paint({}, { key }));
  expect((await door.paint({}, { key })).status).toBe(429);
  const { totals } = await used(key);
  expect(totals).toMatchObject({ requests: 6, hits: 0, results: 1 });
  expect(totals.refusals).toEqual({ invalid_field: 2, not_cached: 1, not_found: 1, requests: 1 });
});

test("identical simultaneous requests all count, and only one result and one cost are taken", async () => {
  const key = await door.key();
  const json = picture();
  const answers = await Promise.all(Array.from({ length: 5 }, () => door.paint(json, { key })));
  const [leader] = answers.map(expectOk);
  const { totals } = await used(key);
  expect(totals).toMatchObject({
    requests: 5,
    results: 1,
    cost: 1,
    bytes: 5 * (leader?.body.length ?? 0),
    refusals: {},
  });
});

test("a read counts with its bytes and takes no GPU time", async () => {
  const key = await door.key();
  const answer = expectOk(await door.ask("/sdapi/v1/samplers", { key }));
  const { totals } = await used(key);
  expect(totals).toMatchObject({
    requests: 1,
    results: 0,
    gpu_seconds: 0,
    cost: 0,
    bytes: answer.body.length,
    refusals: {},
  });
});

test("a tenant does not see another's usage, and its key needs the usage scope", async () => {
  const [own, other] = [await door.key(), await door.key()];
  expectOk(await door.paint({}, { key: own }));
  expect(await used(other)).toMatchObject({ data: [], totals: { requests: 0, bytes: 0, refusals: {} } });
  expect(refusalOf(await ask(await door.key({ scopes: ["infer"] })))).toBe("403 forbidden permission_error scope");
  expect((await ask(await door.key({ scopes: ["usage"] }))).status).toBe(200);
  expect(refusalOf(await door.ask("/v1/usage", { key: null }))).toBe(
    "401 invalid_api_key authentication_error missing",
  );
  const post = await door.ask("/v1/usage", { key: own, method: "POST" });
  expect([post.status, post.header("allow")]).toEqual([405, "GET, HEAD"]);
});

test("the operator sees the same usage", async () => {
  const tenant = await door.tenant();
  const key = await door.key({ tenant });
  expectOk(await door.paint({}, { key }));
  const query = `?from=${today()}&to=${today()}&group=service`;
  const usage = await used(key, query);
  expect(usage.data).toMatchObject([{ day: null, key: null, service: "portrait", requests: 1 }]);
  expect(await door.portico.admin("GET", `/tenants/${tenant}/usage${query}`)).toEqual(usage);
  await expect(door.portico.admin("GET", "/tenants/ten_unknown/usage")).rejects.toMatchObject({ status: 404 });
});

test("CSV has a header row, and Link leads to the next page", async () => {
  const key = await door.key();
  expectOk(await door.paint({}, { key }));
  expectOk(await door.speak({ text: "a table" }, { key }));
  await door.ask("/sdapi/v1/nothing", { key });
  const rows: string[] = [];
  for (let query: string | undefined = "?limit=1"; query !== undefined;) {
    const page = expectOk(await ask(key, query, { accept: "text/csv" }));
    expect(page.header("content-type")).toBe("text/csv; charset=utf-8; header=present");
    expect(page.header("vary")).toBe("Accept, Origin");
    const [head, ...lines] = page.text.split("\r\n");
    expect(head).toBe("day,service,key,requests,hits,results,bytes,gpu_seconds,cost,refusals");
    expect(lines.pop()).toBe("");
    rows.push(...lines);
    query = /^<(\?[^>]*)>; rel="next"$/.exec(page.header("link") ?? "")?.[1];
  }
  const { data } = await used(key);
  const cells = data.map(({ refusals, ...row }) => [
    ...Object.values(row),
    Object.keys(refusals).map(() => "not_found=1"),
  ]);
  expect(rows).toEqual(cells.map((row) => row.join(",")));
  expect(rows).toHaveLength(2);
  const preferred = await ask(key, "", { accept: "text/csv;q=0.5, application/json" });
  expect(preferred.header("content-type")).toBe("application/json");
});

test("a span of dates includes both ends, and a span of times includes every day that it touches", async () => {
  const key = await door.key();
  expectOk(await door.paint({}, { key }));
  const now = Date.now();
  const [yesterday, tomorrow] = [dayOf(now - DAY_MS), dayOf(now + DAY_MS)];
  const spans: [string, number][] = [
    [`from=${today()}&to=${today()}`, 1],
    [`from=${yesterday}&to=${tomorrow}`, 1],
    [`from=${yesterday}&to=${yesterday}`, 0],
    [`from=${tomorrow}&to=${tomorrow}`, 0],
    [`from=${yesterday}T00:00:00Z&to=${today()}T00:00:00Z`, 0],
    [`from=${today()}T00:00:00Z&to=${tomorrow}T00:00:00Z`, 1],
    [`from=${today()}T23:59:59.999Z`, 1],
    [`from=${today()}T00:30:00%2B01:00&to=${today()}T00:30:00%2B01:00`, 0],
    [`to=${tomorrow}`, 1],
  ];
  for (const [span, requests] of spans)
    expect({ span, ...(await used(key, `?${span}`)).totals }).toMatchObject({ span, requests });
});

test.each([
  ["from=yesterday", "from"],
  ["from=2026-02-30", "from"],
  ["from=2026-01-01T00:00:00", "from"],
  ["to=", "to"],
  ["from=2026-01-02&to=2026-01-01", "to"],
  ["from=0000-01-01T00:00:00%2B01:00", "from"],
  ["to=9999-12-31T23:59:59-01:00", "to"],
  ["from=2025-01-01&to=2026-01-02", "from"],
  ["group=tenant", "group"],
  ["group=day,", "group"],
  ["limit=0", "limit"],
  ["limit=1001", "limit"],
  ["cursor=nonsense", "cursor"],
])("%s is 400 invalid_field, and names the field", async (query, param) => {
  const answer = await ask(door.ownKey, `?${query}`);
  expect(refusalOf(answer)).toBe("400 invalid_request invalid_request_error invalid_field");
  expect(errorOf(answer).param).toBe(param);
});

test("a span of 366 days is answered", async () => {
  expect(await used(door.ownKey, "?from=2024-01-01&to=2024-12-31")).toMatchObject({ data: [] });
});

test("the usage of a deleted tenant is gone", async () => {
  const tenant = await door.tenant();
  const key = await door.key({ tenant });
  expectOk(await door.paint({}, { key }));
  await door.portico.admin("DELETE", `/tenants/${tenant}`);
  await expect(door.portico.admin("GET", `/tenants/${tenant}/usage`)).rejects.toMatchObject({ status: 404 });
});
