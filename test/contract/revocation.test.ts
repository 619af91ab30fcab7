/** Revocation takes effect within 10 s in every process, also in one that is not told: two processes share one D1. */
import { mkdir, readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { Admin } from "../../local/admin.ts";
import { type Runtime, startRuntime } from "../../local/runtime.ts";
import { loadSecrets } from "../../local/secrets.ts";
import { temporaryFolders } from "../support/folders.ts";
import { type Answer, raw } from "../support/raw.ts";
import { errorOf } from "./doorway.ts";

const REVOKED_MS_MAX = 10_000;
const POLL_MS = 250;

const newFolder = temporaryFolders();
const runtimes: Runtime[] = [];
/** The process where everything is changed. */
let here: Admin;
/** The process that is not told of changes. */
let elsewhere = "";

beforeAll(async () => {
  const path = inject("bundle");
  const bundle = { path, text: await readFile(path, "utf8") };
  const [first, second] = [newFolder(), newFolder()];
  await mkdir(join(first, "state"));
  await symlink(join(first, "state"), join(second, "state"));
  const secrets = await loadSecrets(first);
  for (const stateDir of [first, second])
    runtimes.push(await startRuntime({ bundle, host: "127.0.0.1", port: 0, stateDir, secrets }));
  const [one, other] = runtimes.map((runtime) => runtime.url);
  here = new Admin(one ?? "", secrets.ADMIN_TOKEN);
  elsewhere = other ?? "";
  await here.call("PUT", "/services/s", { kind: "http", route: "/s/" });
});
afterAll(async () => {
  for (const runtime of runtimes) await runtime.stop();
});

const newTenant = async () => (await here.call<{ id: string }>("POST", "/tenants", { name: "t" })).id;
const newKey = (tenant: string) => here.call<{ id: string; key: string }>("POST", `/tenants/${tenant}/keys`);
const newOperator = (name: string) =>
  here.call<{ id: string; token: string }>("POST", "/operators", { name, role: "read" });

/** A call that looks up its key in D1 and calls no object. */
function withKey(key: string): Promise<Answer> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const body = JSON.stringify({ service: "s", path: "x", input: {} });
  return raw(elsewhere, { method: "POST", target: "/v1/fingerprint", headers, body });
}

const withToken = (token: string) =>
  raw(elsewhere, { method: "GET", target: "/admin/v1/services", headers: { authorization: `Bearer ${token}` } });

/**
 * Repeats a change until it succeeds. Unlike in D1, two processes write one file here, so that a write may find it
 * locked and change nothing.
 */
async function insist(change: () => Promise<unknown>, tries = 5): Promise<unknown> {
  try {
    return await change();
  } catch (error) {
    if (tries === 1 || !String(error).includes("500 internal")) throw error;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    return insist(change, tries - 1);
  }
}

/** Makes a change here, and returns how the other process then refuses the call, and after how many ms. */
async function stopped(ask: () => Promise<Answer>, change: () => Promise<unknown>): Promise<[string, number]> {
  const before = await ask();
  expect(before.status, before.text).toBe(200);
  await insist(change);
  const from = performance.now();
  for (;;) {
    const answer = await ask();
    const ms = performance.now() - from;
    if (answer.status !== 200) return [`${answer.status} ${errorOf(answer).reason}`, ms];
    if (ms > REVOKED_MS_MAX) return ["still works", ms];
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

test("a credential revoked in one process is refused in another within 10 s", { timeout: 40_000 }, async () => {
  const [tenant, other] = [await newTenant(), await newTenant()];
  const revoked = await newKey(tenant);
  const disabled = await newKey(tenant);
  const rotated = await newKey(tenant);
  const untouched = await newKey(tenant);
  const tenants = await newKey(other);
  const operator = await newOperator("day-shift");
  const rotating = await newOperator("night-shift");
  const ends = await Promise.all([
    stopped(
      () => withKey(revoked.key),
      () => here.call("DELETE", `/keys/${revoked.id}`),
    ),
    stopped(
      () => withKey(disabled.key),
      () => here.call("PATCH", `/keys/${disabled.id}`, { state: "disabled" }),
    ),
    stopped(
      () => withKey(rotated.key),
      () => here.call("POST", `/keys/${rotated.id}/rotate`),
    ),
    stopped(
      () => withKey(tenants.key),
      () => here.call("PATCH", `/tenants/${other}`, { state: "disabled" }),
    ),
    stopped(
      () => withToken(operator.token),
      () => here.call("DELETE", `/operators/${operator.id}`),
    ),
    stopped(
      () => withToken(rotating.token),
      () => here.call("POST", `/operators/${rotating.id}/rotate`),
    ),
  ]);
  expect(ends.map(([end]) => end)).toEqual([
    "401 revoked",
    "401 revoked",
    "401 revoked",
    "403 tenant_disabled",
    "401 revoked",
    "401 revoked",
  ]);
  for (const [, ms] of ends) expect(ms).toBeLessThan(REVOKED_MS_MAX);
  expect((await withKey(untouched.key)).status).toBe(200);
});
