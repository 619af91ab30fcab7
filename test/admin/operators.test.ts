import { expect, test } from "vitest";
import { type Answer, frontDoor, type Json, SECRETS } from "./front-door.ts";

const door = frontDoor();
const TOKEN = /^pto_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{37}$/;
const FREE_GUESSES = 100;

let operators = 0;
const newOperator = (body: object = {}) =>
  door.done("POST", "/operators", { name: `operator-${++operators}`, role: "read", ...body });
const sleepMs = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns `open` if the token is accepted, otherwise the status and the reason. */
async function opens(token: string): Promise<string> {
  const { status, json } = await door.admin("GET", "/services", undefined, { token });
  return status === 200 ? "open" : `${status} ${json.error?.reason}`;
}

const as = (token: string, method: string, path: string, body?: object): Promise<string> =>
  door.refusal(method, path, body, { token });

async function lastChange(id: string): Promise<Json> {
  const [row] = (await door.done("GET", `/audit?target=${id}&limit=1`)).data;
  if (row === undefined) throw new Error(`nothing in the log of ${id}`);
  return row;
}

test("a new operator's token works and is shown only once", async () => {
  const { status, json } = await door.admin("POST", "/operators", {
    name: " day-shift ",
    role: "ops",
    email: "Day-Shift@Example.com",
  });
  expect(status).toBe(201);
  const { token, ...rest } = json;
  expect(token).toMatch(TOKEN);
  expect(rest).toEqual({
    id: token.split("_")[2],
    name: "day-shift",
    role: "ops",
    email: "day-shift@example.com",
    has_token: true,
    earlier_token_until: null,
    state: "active",
    created_at: expect.any(String),
    created_by: "admin",
    expires_at: null,
    revoked_at: null,
    last_used_at: null,
  });
  expect(await opens(token)).toBe("open");
  const [row] = await door.rows("SELECT * FROM operators WHERE id = ?", json.id);
  expect(JSON.stringify(row)).not.toContain(token);
  for (const path of [`/operators/${json.id}`, "/operators", "/audit"]) {
    const { text } = await door.admin("GET", path);
    expect(text, path).not.toContain(token);
    expect(text, path).not.toContain(String(row?.["token_hash"]));
  }
});

test("an operator with invalid fields, or with neither token nor e-mail, is not created", async () => {
  const refused = (body: object) => door.refusal("POST", "/operators", { name: "x", role: "read", ...body });
  expect(await door.refusal("POST", "/operators", { role: "read" })).toBe("400 invalid_field name");
  expect(await door.refusal("POST", "/operators", { name: "x" })).toBe("400 invalid_field role");
  expect(await refused({ role: "root" })).toBe("400 invalid_field role");
  expect(await refused({ name: " " })).toBe("400 invalid_field name");
  expect(await refused({ name: "Admin" })).toBe("400 invalid_field name");
  expect(await refused({ email: "nobody" })).toBe("400 invalid_field email");
  expect(await refused({ expires_at: "tomorrow" })).toBe("400 invalid_field expires_at");
  expect(await refused({ token: false })).toBe("400 invalid_field email");
  expect(await refused({ scopes: [] })).toBe("400 invalid_field scopes");
  expect((await newOperator({ email: "only@example.com", token: false })).token).toBeUndefined();
});

test("an operator's name is never reused; its e-mail address is free again after revocation", async () => {
  const first = await newOperator({ name: "night-shift", email: "night-shift@example.com" });
  expect(await door.refusal("POST", "/operators", { name: "night-shift", role: "read" })).toBe(
    "400 invalid_field name",
  );
  const again = { name: "night-shift-2", role: "read", email: "NIGHT-SHIFT@example.com" };
  expect(await door.refusal("POST", "/operators", again)).toBe("400 invalid_field email");
  const other = await newOperator();
  expect(await door.refusal("PATCH", `/operators/${other.id}`, { name: "night-shift" })).toBe("400 invalid_field name");
  await door.done("DELETE", `/operators/${first.id}`);
  expect(await door.refusal("POST", "/operators", { name: "night-shift", role: "read" })).toBe(
    "400 invalid_field name",
  );
  expect((await door.admin("POST", "/operators", again)).status).toBe(201);
});

test("the read role can read everything and change nothing", async () => {
  const { token } = await newOperator({ role: "read" });
  for (const path of ["/services", "/cards", "/tenants", "/keys", "/operators", "/leases", "/audit"])
    expect((await door.admin("GET", path, undefined, { token })).status, path).toBe(200);
  const changes: [string, string, object?][] = [
    ["PUT", "/services/r", { kind: "http", route: "/r/" }],
    ["POST", "/services/r/pause"],
    ["PUT", "/services/r/cards/c", { origin: "https://gpu.example.com" }],
    ["PATCH", "/cards/c", { slots: 1 }],
    ["POST", "/tenants", { name: "t" }],
    ["POST", "/operators", { name: "more", role: "admin" }],
  ];
  for (const [method, path, body] of changes)
    expect(await as(token, method, path, body), `${method} ${path}`).toBe("403 role");
});

test("the ops role manages cards and pauses services, but not tenants, keys, operators or settings", async () => {
  await door.done("PUT", "/services/o", { kind: "http", route: "/o/" });
  const tenant = await door.done("POST", "/tenants", { name: "t" });
  const key = await door.done("POST", `/tenants/${tenant.id}/keys`);
  const { id, token } = await newOperator({ role: "ops" });
  const may: [string, string, object?][] = [
    ["GET", "/services/o"],
    ["POST", "/services/o/pause"],
    ["POST", "/services/o/resume"],
    ["PUT", "/services/o/cards/oc", { origin: "https://gpu.example.com" }],
    ["PATCH", "/cards/oc", { state: "draining" }],
    ["DELETE", "/services/o/cards/oc"],
  ];
  for (const [method, path, body] of may) {
    const { status } = await door.admin(method, path, body, { token });
    expect(status, `${method} ${path}`).toBeLessThan(300);
  }
  const mayNot: [string, string, object?][] = [
    ["PUT", "/services/o", { model_version: "v2" }],
    ["DELETE", "/services/o"],
    ["POST", "/cards/oc/token"],
    ["DELETE", "/cards/oc"],
    ["POST", "/tenants", { name: "t" }],
    ["PATCH", `/tenants/${tenant.id}`, { name: "x" }],
    ["DELETE", `/tenants/${tenant.id}`],
    ["POST", `/tenants/${tenant.id}/keys`, {}],
    ["PATCH", `/keys/${key.id}`, { name: "x" }],
    ["POST", `/keys/${key.id}/rotate`, {}],
    ["DELETE", `/keys/${key.id}`],
    ["PATCH", `/operators/${id}`, { role: "admin" }],
    ["POST", `/operators/${id}/rotate`, {}],
    ["DELETE", `/operators/${id}`],
  ];
  for (const [method, path, body] of mayNot)
    expect(await as(token, method, path, body), `${method} ${path}`).toBe("403 role");
});

test("the admin role acts under its own name and cannot lock out the admin token", async () => {
  const { token } = await newOperator({ name: "chief", role: "admin" });
  const made = await door.admin("POST", "/operators", { name: "hand", role: "admin" }, { token });
  expect(made.json).toMatchObject({ created_by: "chief" });
  const tenant = await door.admin("POST", "/tenants", { name: "t" }, { token });
  const key = await door.admin("POST", `/tenants/${tenant.json.id}/keys`, {}, { token });
  expect(key.json).toMatchObject({ created_by: "chief" });
  expect(await lastChange(key.json.id)).toMatchObject({ actor: "chief", action: "key.create" });
  const { data } = await door.done("GET", "/operators?limit=1000");
  for (const { id } of data) await door.admin("DELETE", `/operators/${id}`, undefined, { token: made.json.token });
  expect(await opens(made.json.token)).toBe("401 revoked");
  expect(await opens(SECRETS.ADMIN_TOKEN)).toBe("open");
});

test("a revoked operator is refused, stays listed and stays revoked", async () => {
  const { id, token } = await newOperator();
  expect(await opens(token)).toBe("open");
  expect((await door.admin("DELETE", `/operators/${id}`)).status).toBe(204);
  expect(await opens(token)).toBe("401 revoked");
  expect((await door.admin("DELETE", `/operators/${id}`)).status).toBe(204);
  expect(await door.refusal("PATCH", `/operators/${id}`, { role: "admin" })).toBe("400 invalid_field id");
  expect(await door.refusal("POST", `/operators/${id}/rotate`)).toBe("400 invalid_field id");
  expect(await door.done("GET", `/operators/${id}`)).toMatchObject({ state: "revoked", email: null });
  for (const [method, path] of [
    ["GET", ""],
    ["PATCH", ""],
    ["DELETE", ""],
    ["POST", "/rotate"],
  ] as const)
    expect(await door.refusal(method, `/operators/nobody${path}`, method === "PATCH" ? {} : undefined)).toBe(
      "404 not_found",
    );
});

test("a patch of an operator takes effect at once", async () => {
  const { id, token } = await newOperator({ email: "weekend@example.com" });
  expect(await as(token, "POST", "/tenants", { name: "t" })).toBe("403 role");
  const patched = await door.done("PATCH", `/operators/${id}`, { name: "weekend", role: "admin", email: null });
  expect(patched).toMatchObject({ name: "weekend", role: "admin", email: null });
  expect((await door.admin("POST", "/tenants", { name: "t" }, { token })).status).toBe(201);
  await door.done("PATCH", `/operators/${id}`, { expires_at: "2020-01-01T00:00:00Z" });
  expect(await opens(token)).toBe("401 expired");
  expect(await door.refusal("POST", `/operators/${id}/rotate`)).toBe("400 invalid_field id");
  await door.done("PATCH", `/operators/${id}`, { expires_at: null });
  expect(await opens(token)).toBe("open");
  const tokenless = await newOperator({ email: "ops@example.com", token: false });
  expect(await door.refusal("PATCH", `/operators/${tokenless.id}`, { email: null })).toBe("400 invalid_field email");
});

test("after rotation with an overlap both tokens work until it ends; without one only the new one does", async () => {
  const old = await newOperator();
  const next = await door.done("POST", `/operators/${old.id}/rotate`, { overlap_s: 3 });
  expect(next.id).toBe(old.id);
  expect(next.token).toMatch(TOKEN);
  expect([await opens(old.token), await opens(next.token)]).toEqual(["open", "open"]);
  await sleepMs(3_100);
  expect([await opens(old.token), await opens(next.token)]).toEqual(["401 revoked", "open"]);

  const last = await door.done("POST", `/operators/${old.id}/rotate`);
  expect([await opens(next.token), await opens(last.token)]).toEqual(["401 revoked", "open"]);
  expect(await opens(old.token)).toBe("401 unknown");
  expect(await door.refusal("POST", `/operators/${old.id}/rotate`, { overlap_s: -1 })).toBe(
    "400 invalid_field overlap_s",
  );
});

test("an operator that used only Access can be given a token", async () => {
  const { id } = await newOperator({ email: "standby@example.com", token: false });
  const { token } = await door.done("POST", `/operators/${id}/rotate`);
  expect(await opens(token)).toBe("open");
});

test("every change of an operator is in the audit log with actor, before and after, and without secrets", async () => {
  const { id, token } = await newOperator({ name: "release" });
  expect(await lastChange(id)).toMatchObject({ actor: "admin", action: "operator.create", before: null });
  await door.done("PATCH", `/operators/${id}`, { role: "ops" });
  const patched = await lastChange(id);
  expect(patched).toMatchObject({ action: "operator.patch", before: { role: "read" }, after: { role: "ops" } });
  const next = await door.done("POST", `/operators/${id}/rotate`, { overlap_s: 60 });
  expect(await lastChange(id)).toMatchObject({
    action: "operator.rotate",
    before: { earlier_token_until: null },
    after: { earlier_token_until: expect.any(String) },
  });
  await door.done("DELETE", `/operators/${id}`);
  expect(await lastChange(id)).toMatchObject({ action: "operator.revoke", after: { state: "revoked" } });
  const { text } = await door.admin("GET", `/audit?target=${id}`);
  for (const secret of [token, next.token]) expect(text).not.toContain(secret.split("_").at(-1));
  const before = (await door.done("GET", `/audit?target=${id}`)).data.length;
  await door.admin("DELETE", `/operators/${id}`);
  expect((await door.done("GET", `/audit?target=${id}`)).data).toHaveLength(before);
});

test("concurrent patches of different fields of one operator are all kept", async () => {
  const { id } = await newOperator();
  await Promise.all([
    door.done("PATCH", `/operators/${id}`, { role: "ops" }),
    door.done("PATCH", `/operators/${id}`, { email: "hal@example.com" }),
    door.done("PATCH", `/operators/${id}`, { name: "hal" }),
  ]);
  expect(await door.done("GET", `/operators/${id}`)).toMatchObject({
    role: "ops",
    email: "hal@example.com",
    name: "hal",
  });
});

test("an operator's token is not accepted as a tenant's key, nor a key as a token", async () => {
  const { token } = await newOperator({ role: "admin" });
  const { json } = await door.ask("GET", "/v1/requests/nothing", undefined, { token });
  expect(json.error?.reason).toBe("malformed");
  const tenant = await door.done("POST", "/tenants", { name: "t" });
  const { key } = await door.done("POST", `/tenants/${tenant.id}/keys`);
  expect(await opens(key)).toBe("401 unknown");
  // Replacing the prefix does not help: the checksum covers it.
  expect(await opens(key.replace("ptk", "pto"))).toBe("401 malformed");
});

test(
  "more than 100 tokens with a wrong checksum get 429 address; valid tokens still work",
  { timeout: 40_000 },
  async () => {
    const { token } = await newOperator();
    const guess = (i: number): Promise<Answer> => {
      const wrong = `${token.slice(0, -8)}${String(i).padStart(8, "0")}`;
      return door.admin("GET", "/services", undefined, { token: wrong });
    };
    const statuses = new Map<number, number>();
    for (let i = 0; i < FREE_GUESSES + 20; i += 10) {
      const answers = await Promise.all(Array.from({ length: 10 }, (_, j) => guess(i + j)));
      for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
    // The test above made one guess.
    expect(statuses.get(401)).toBeGreaterThanOrEqual(FREE_GUESSES - 1);
    expect(statuses.get(429)).toBeGreaterThanOrEqual(20);
    const refused = await guess(1_000);
    expect(refused.json.error?.reason).toBe("address");
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect([await opens(token), await opens(SECRETS.ADMIN_TOKEN)]).toEqual(["open", "open"]);
  },
);
