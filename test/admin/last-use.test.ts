import { beforeAll, expect, test } from "vitest";
import { frontDoor, type Json } from "./front-door.ts";

const door = frontDoor();
const WRITTEN_MS_MAX = 5_000;
const POLL_MS = 50;
/** Longer than a write takes; used to check that nothing is written. */
const QUIET_MS = 500;

let tenant = "";
beforeAll(async () => {
  await door.done("PUT", "/services/used", { kind: "http", route: "/used/" });
  tenant = (await door.done("POST", "/tenants", { name: "t" })).id;
});

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const newKey = (body: object = {}) => door.done("POST", `/tenants/${tenant}/keys`, body);
const lastUse = (table: "keys" | "operators", { id }: Json) =>
  door.rows(`SELECT last_used_at AS at FROM ${table} WHERE id = ?`, id).then(([row]) => row?.["at"]);

async function use({ key }: Json): Promise<number> {
  return (await door.ask("POST", "/v1/fingerprint", { service: "used", path: "x", input: {} }, { token: key })).status;
}

async function untilWritten(table: "keys" | "operators", who: Json): Promise<number> {
  for (const until = Date.now() + WRITTEN_MS_MAX; Date.now() < until; await sleep(POLL_MS)) {
    const at = await lastUse(table, who);
    if (at !== null) return Number(at);
  }
  throw new Error("not written");
}

test("using a key records last_used_at, at most once an hour", async () => {
  const key = await newKey();
  expect(await lastUse("keys", key)).toBeNull();
  const from = Date.now();
  expect(await use(key)).toBe(200);
  const at = await untilWritten("keys", key);
  expect(at).toBeGreaterThanOrEqual(from);
  const [listed] = (await door.done("GET", `/keys?tenant=${tenant}`)).data.filter((row) => row.id === key.id);
  expect(listed).toMatchObject({ last_used_at: new Date(at).toISOString() });
  expect(await use(key)).toBe(200);
  await sleep(QUIET_MS);
  expect(await lastUse("keys", key)).toBe(at);
});

test("a refused request does not record last_used_at of its key", async () => {
  const keys = [
    await newKey({ scopes: ["usage"] }),
    await newKey({ services: ["another"] }),
    await newKey({ expires_at: "2020-01-01T00:00:00Z" }),
  ];
  const revoked = await newKey();
  await door.done("DELETE", `/keys/${revoked.id}`);
  for (const key of [...keys, revoked]) expect([401, 403]).toContain(await use(key));
  await sleep(QUIET_MS);
  for (const key of [...keys, revoked]) expect(await lastUse("keys", key)).toBeNull();
});

test("an accepted operator call records last_used_at, and a refused one does not", async () => {
  const operator = await door.done("POST", "/operators", { name: "day-shift", role: "read" });
  const call = (method: string, path: string) => door.admin(method, path, undefined, { token: operator.token });
  expect((await call("DELETE", "/services/used")).status).toBe(403);
  await sleep(QUIET_MS);
  expect(await lastUse("operators", operator)).toBeNull();
  expect((await call("GET", "/services")).status).toBe(200);
  expect(await untilWritten("operators", operator)).toBeGreaterThan(0);
});
