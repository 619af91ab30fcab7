import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import * as change from "../../../worker/db/admin-queries.ts";
import * as callers from "../../../worker/db/caller-queries.ts";
import { cardById, keyById, tenantById } from "../../../worker/db/list-queries.ts";
import { type CardRow, type KeyRow, type ServiceRow, serviceById, type TenantRow } from "../../../worker/db/queries.ts";
import { completeService } from "../../../worker/services/kinds.ts";
import type { Service } from "../../../worker/services/service.ts";
import { DEFAULT_LIMITS } from "../../../worker/caller/tenant.ts";

const said = (target: string, before: object | null = null, after: object | null = null) => ({
  actor: "admin",
  action: "test",
  target,
  before,
  after,
  requestId: "req_1",
});
const config = (route: string, model_version: string | null = null): Service =>
  completeService({ kind: "http", route, model_version }, null);

async function service(id: string): Promise<ServiceRow> {
  const row = await serviceById(env, id);
  if (row === null) throw new Error(`no service ${id}`);
  return row;
}

async function card(id: string): Promise<CardRow> {
  const row = await cardById(env, id);
  if (row === null) throw new Error(`no card ${id}`);
  return row;
}

const newCard = (id: string): CardRow => ({
  id,
  server: null,
  gpu: null,
  slots: 2,
  state: "active",
  tokenHash: "h",
  version: Date.now(),
  createdAt: Date.now(),
});
const listing = (serviceId: string, cardId: string) => ({
  serviceId,
  cardId,
  origin: "o",
  transport: "direct" as const,
  weight: 1,
});

async function rowsOfLog(target: string): Promise<number> {
  const row = await env.DB.prepare("SELECT count(*) AS n FROM audit WHERE target = ?")
    .bind(target)
    .first<{ n: number }>();
  return row?.n ?? -1;
}

test("a change computed from an outdated row changes nothing and writes no audit row", async () => {
  expect(await change.putService(env, "stale", null, config("/stale/"), said("stale"))).toBe("done");
  const old = await service("stale");
  expect(await change.putService(env, "stale", old, config("/stale/", "v2"), said("stale"))).toBe("done");
  const now = await service("stale");
  expect(await change.putService(env, "stale", old, config("/stale/", "v3"), said("stale"))).toBe("stale");
  expect(await change.putService(env, "stale", null, config("/stale/", "v3"), said("stale"))).toBe("stale");
  expect(await change.deleteService(env, old, said("stale"))).toBe("stale");
  expect(await service("stale")).toEqual(now);
  expect(await rowsOfLog("stale")).toBe(2);
});

test("a route that another service has is distinguished from a stale change", async () => {
  await change.putService(env, "route-a", null, config("/route/"), said("route-a"));
  expect(await change.putService(env, "route-b", null, config("/route/"), said("route-b"))).toBe("route_taken");
  expect(await serviceById(env, "route-b")).toBeNull();
  expect(await rowsOfLog("route-b")).toBe(0);
});

test("versions grow even when the clock went back", async () => {
  await change.putService(env, "clock", null, config("/clock/"), said("clock"));
  await change.putListing(env, null, newCard("clock-card"), listing("clock", "clock-card"), said("clock"));
  const ahead = Date.now() + 3_600_000;
  await env.DB.batch([
    env.DB.prepare("UPDATE services SET version = ? WHERE id = 'clock'").bind(ahead),
    env.DB.prepare("UPDATE cards SET version = ? WHERE id = 'clock-card'").bind(ahead),
  ]);
  await change.putService(env, "clock", await service("clock"), config("/clock/", "v2"), said("clock"));
  expect([(await service("clock")).version, (await card("clock-card")).version]).toEqual([ahead + 1, ahead + 1]);
  const before = await card("clock-card");
  await change.patchCard(env, before, { ...before, slots: 1 }, said("clock"));
  expect([(await service("clock")).version, (await card("clock-card")).version]).toEqual([ahead + 2, ahead + 2]);
});

test("a card is not listed in a service that was deleted meanwhile", async () => {
  expect(await change.putListing(env, null, newCard("lost"), listing("gone", "lost"), said("lost"))).toBe("stale");
  expect(await cardById(env, "lost")).toBeNull();
});

test("of several requests that create the same card at once, one succeeds", async () => {
  await change.putService(env, "race", null, config("/race/"), said("race"));
  const put = (id: string) =>
    change.putListing(env, null, { ...newCard("racer"), tokenHash: id }, listing("race", "racer"), said("racer"));
  expect((await Promise.all([put("one"), put("two"), put("three")])).toSorted()).toEqual(["done", "stale", "stale"]);
  expect(await rowsOfLog("racer")).toBe(1);
});

const weighing = (weight: number) => ({
  name: "a",
  limits: DEFAULT_LIMITS,
  weight,
  origins: [],
  state: "active" as const,
});

const unrestricted = {
  name: "b",
  scopes: null,
  services: null,
  expiresAt: null,
  state: "active" as const,
  revokedAt: null,
};

test("stale changes of tenants and keys are rejected too", async () => {
  const tenant: TenantRow = {
    id: "ten_a",
    name: "a",
    limits: DEFAULT_LIMITS,
    weight: 1,
    state: "active",
    origins: [],
    createdAt: 1,
  };
  await callers.createTenant(env, tenant, said("ten_a"));
  expect(await callers.patchTenant(env, tenant, weighing(0.5), said("ten_a"))).toBe("done");
  expect(await callers.patchTenant(env, tenant, weighing(2), said("ten_a"))).toBe("stale");
  expect((await tenantById(env, "ten_a"))?.weight).toBe(0.5);

  const key: KeyRow = {
    id: "k",
    tenantId: "ten_a",
    name: null,
    hash: "h",
    tail: "t",
    scopes: null,
    services: null,
    state: "active",
    createdAt: 1,
    createdBy: "admin",
    expiresAt: null,
    revokedAt: null,
    lastUsedAt: null,
    rotatedFrom: null,
  };
  expect(await callers.createKey(env, { ...key, tenantId: "nobody" }, said("k"))).toBe("stale");
  expect(await callers.createKey(env, key, said("k"))).toBe("done");
  expect(await callers.patchKey(env, { ...key, scopes: ["infer"] }, unrestricted, null, said("k"))).toBe("stale");
  const revoked = {
    name: null,
    scopes: null,
    services: null,
    expiresAt: null,
    state: "revoked" as const,
    revokedAt: 2,
  };
  expect(await callers.patchKey(env, key, revoked, null, said("k"))).toBe("done");
  expect(
    await callers.patchKey(env, key, { ...revoked, state: "active", revokedAt: null }, { ...key, id: "k2" }, said("k")),
  ).toBe("stale");
  expect([(await keyById(env, "k"))?.state, await keyById(env, "k2")]).toEqual(["revoked", null]);
});
