import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { frontDoor, type Json } from "../admin/front-door.ts";

const door = frontDoor();

/** Answers of an origin that holds every request until letGo(). */
const held: ServerResponse[] = [];
let server: Server;
let origin = "";
let key = "";

beforeAll(async () => {
  server = createServer((_, response) => held.push(response));
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address: string | AddressInfo | null = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  origin = `http://127.0.0.1:${address.port}`;
  const tenant = await door.done("POST", "/tenants", { name: "t" });
  key = (await door.done("POST", `/tenants/${tenant.id}/keys`, {})).key;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function letGo(): void {
  for (const response of held.splice(0)) response.end("done");
}

const run = (path: string) => door.ask("POST", path, { n: 1 }, { token: key });

/** The cluster status, after the cached one has expired. */
async function status(): Promise<Json> {
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  const answer = await door.ask("GET", "/cluster/status", undefined, { token: null });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("cache-control")).toBe("no-store");
  return answer.json;
}

test("without cards the cluster is healthy and empty", async () => {
  expect(await status()).toEqual({
    status: "healthy",
    cluster: "portico",
    timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/),
    total_capacity: 0,
    servers: 0,
    gpus_per_server: 0,
    concurrent_per_gpu: 0,
    in_use: 0,
    queued: 0,
    services: [],
  });
});

test("a card in two services is counted once, and a disabled card is not counted", async () => {
  await door.done("PUT", "/services/a", { kind: "http", route: "/a/", breaker: { max_fails: 1 } });
  await door.done("PUT", "/services/b", { kind: "http", route: "/b/" });
  await door.done("PUT", "/services/a/cards/one", { origin, server: "s1", slots: 1 });
  await door.done("PUT", "/services/b/cards/one", { origin });
  await door.done("PUT", "/services/b/cards/two", { origin, server: "s1", slots: 3 });
  await door.done("PUT", "/services/b/cards/three", { origin });
  await door.done("PUT", "/services/b/cards/off", { origin, server: "s2", state: "disabled" });
  expect(await status()).toMatchObject({
    status: "healthy",
    total_capacity: 6,
    servers: 2,
    gpus_per_server: 2,
    concurrent_per_gpu: 3,
    services: [
      { id: "a", capacity: 1, in_use: 0, queued: 0, cards: 1, healthy_cards: 1 },
      { id: "b", capacity: 6, in_use: 0, queued: 0, cards: 3, healthy_cards: 3 },
    ],
  });
});

test("running and waiting requests are counted, and leases are listed", async () => {
  const calls = [run("/a/first"), run("/a/second"), run("/a/third")];
  await vi.waitFor(() => expect(held).toHaveLength(1), 5_000);
  expect(await status()).toMatchObject({
    in_use: 1,
    queued: 2,
    services: [
      { id: "a", in_use: 1, queued: 2 },
      { id: "b", in_use: 0, queued: 0 },
    ],
  });
  const [lease, ...more] = (await door.done("GET", "/leases")).data;
  expect(more).toEqual([]);
  expect(lease).toMatchObject({ card: "one", state: "leased", service: "a", drain_until: null });
  expect(lease?.age_ms).toBeGreaterThan(900);
  expect(Date.parse(lease?.expires_at ?? "")).toBeGreaterThan(Date.now());
  const holders: (string | null)[] = [];
  for (const call of calls) {
    await vi.waitFor(() => expect(held).toHaveLength(1), 5_000);
    letGo();
    const answer = await call;
    expect(answer.status).toBe(200);
    holders.push(answer.headers.get("x-request-id"));
  }
  expect(holders).toContain(lease?.holder);
  expect(await status()).toMatchObject({ in_use: 0, queued: 0 });
  expect((await door.done("GET", "/leases")).data).toEqual([]);
});

const names = (leases: Json[]) => leases.map((lease) => `${lease.card} ${lease.number}`);

test("leases are paged across all cards", async () => {
  const calls = [run("/b/1"), run("/b/2"), run("/b/3"), run("/b/4")];
  await vi.waitFor(() => expect(held).toHaveLength(4), 5_000);
  const whole = (await door.done("GET", "/leases")).data;
  expect(whole).toHaveLength(4);
  const found: Json[] = [];
  let cursor = "";
  do {
    const page = await door.done("GET", `/leases?limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`);
    found.push(...page.data);
    cursor = page.next_cursor ?? "";
  } while (cursor !== "" && found.length < 10);
  expect(names(found)).toEqual(names(whole));
  letGo();
  expect((await Promise.all(calls)).map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
});

test("a draining card degrades the cluster, and a service without a working card is down", async () => {
  await door.done("PATCH", "/cards/two", { state: "draining" });
  expect(await status()).toMatchObject({
    status: "degraded",
    total_capacity: 6,
    services: [{}, { cards: 3, healthy_cards: 2 }],
  });
  await door.done("PATCH", "/cards/one", { state: "draining" });
  expect(await status()).toMatchObject({
    status: "down",
    services: [{ id: "a", cards: 1, healthy_cards: 0 }, { healthy_cards: 1 }],
  });
  await door.done("PATCH", "/cards/one", { state: "active" });
  await door.done("PATCH", "/cards/two", { state: "active" });
  expect(await status()).toMatchObject({ status: "healthy" });
});

test("a card that fails for one service is out of that service only", async () => {
  await door.done("PUT", "/services/a/cards/one", { origin: "http://127.0.0.1:9" });
  expect((await run("/a/fails")).status).toBeGreaterThanOrEqual(502);
  expect(await status()).toMatchObject({
    status: "down",
    services: [
      { id: "a", healthy_cards: 0 },
      { id: "b", healthy_cards: 3 },
    ],
  });
  const gates = (await door.done("GET", "/cards/one")).live?.gates;
  expect(gates).toMatchObject({ a: { state: "open", reason: "origin_refused" }, b: { state: "closed" } });
  expect(Date.parse(gates?.a?.until_at ?? "")).toBeGreaterThan(Date.now());
});

test("a service without cards is not down", async () => {
  await door.done("PUT", "/services/a/cards/one", { origin });
  await door.done("DELETE", "/services/a/cards/one");
  expect(await status()).toMatchObject({
    status: "healthy",
    services: [{ id: "a", cards: 0, healthy_cards: 0 }, { id: "b" }],
  });
});

test("concurrent status requests share one answer that is at most a second old", async () => {
  await status();
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  const from = Date.now();
  const answers = await Promise.all(Array.from({ length: 20 }, () => door.ask("GET", "/cluster/status")));
  const stamps = new Set(answers.map((answer) => answer.json.timestamp));
  expect(stamps.size).toBe(1);
  for (const stamp of stamps) expect(Date.parse(stamp ?? "")).toBeGreaterThanOrEqual(from - 1_000);
});
