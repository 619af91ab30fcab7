import { expect, test } from "vitest";
import { frontDoor, type Json } from "./front-door.ts";

const door = frontDoor();
const KEY = /^ptk_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{37}$/;

const newTenant = async () => (await door.done("POST", "/tenants", { name: "studio" })).id;
const newKey = async (tenant: string, body: object = {}) => door.done("POST", `/tenants/${tenant}/keys`, body);

/** Returns `open` if the key is accepted, otherwise the reason of the refusal. */
async function opens(key: Json): Promise<string> {
  const { status, json } = await door.ask("GET", "/v1/requests/nothing", undefined, { token: key.key });
  return status === 404 ? "open" : String(json.error?.reason);
}

test("a new tenant gets the default limits, merged with the limits that the request sets", async () => {
  const { status, json } = await door.admin("POST", "/tenants", {
    name: " Studio ",
    limits: { concurrent: 2, results_per_month: 500 },
  });
  expect(status).toBe(201);
  expect(json).toMatchObject({
    id: expect.stringMatching(/^ten_[0-9A-Za-z]{16}$/),
    name: "Studio",
    limits: {
      requests_per_minute: 600,
      burst: 60,
      concurrent: 2,
      waiting: 100,
      jobs_waiting: 1000,
      results_per_month: 500,
    },
    weight: 1,
    state: "active",
  });
  expect(await door.done("GET", `/tenants/${json.id}`)).toEqual(json);
});

test("limits accept values up to one million and reject larger ones", async () => {
  const million = {
    requests_per_minute: 1e6,
    burst: 1e6,
    concurrent: 1e6,
    waiting: 1e6,
    jobs_waiting: 1e6,
    results_per_month: 1e6,
    per_address: 1e6,
    cost_per_month: 1e6,
  };
  const { limits: made } = await door.done("POST", "/tenants", { name: "large", limits: million });
  expect(made).toEqual({ ...million, services: {} });
  const refused = (limits: object) => door.refusal("POST", "/tenants", { name: "x", limits });
  expect(await refused({ burst: 1e6 + 1 })).toBe("400 invalid_field limits.burst");
  expect(await refused({ concurrent: 0 })).toBe("400 invalid_field limits.concurrent");
  expect(await refused({ concurrent: 1.5 })).toBe("400 invalid_field limits.concurrent");
  expect(await refused({ per_minute: 5 })).toBe("400 invalid_field limits.per_minute");
  expect(await door.refusal("POST", "/tenants", {})).toBe("400 invalid_field name");
});

test("a patch merges limits with the stored ones", async () => {
  const id = await newTenant();
  await door.done("PATCH", `/tenants/${id}`, { limits: { burst: 5 } });
  const patched = await door.done("PATCH", `/tenants/${id}`, { limits: { waiting: 0 }, weight: 2.5 });
  expect(patched).toMatchObject({ name: "studio", weight: 2.5, limits: { burst: 5, waiting: 0, concurrent: 6 } });
  expect(await door.refusal("PATCH", `/tenants/${id}`, { weight: 0 })).toBe("400 invalid_field weight");
  expect(await door.refusal("PATCH", "/tenants/nobody", { weight: 1 })).toBe("404 not_found");
});

test("limits per service merge field by field, null removes them, and errors name the field", async () => {
  const made = await door.done("POST", "/tenants", {
    name: "studio",
    limits: { services: { portrait: { burst: 5, per_address: null }, other: null } },
  });
  expect(made.limits).toMatchObject({ per_address: null, cost_per_month: null });
  expect(made.limits).toHaveProperty("services", { portrait: { burst: 5, per_address: null } });
  const patch = (services: object) => door.done("PATCH", `/tenants/${made.id}`, { limits: { services } });
  const patched = await patch({ portrait: { waiting: 0 }, cosyvoice2: { concurrent: 1 } });
  const both = { portrait: { burst: 5, per_address: null, waiting: 0 }, cosyvoice2: { concurrent: 1 } };
  expect(patched.limits).toHaveProperty("services", both);
  expect((await patch({ portrait: null })).limits).toHaveProperty("services", { cosyvoice2: { concurrent: 1 } });
  const refused = (limits: object) => door.refusal("PATCH", `/tenants/${made.id}`, { limits });
  const bad = "400 invalid_field limits.";
  expect(await refused({ services: { portrait: { burst: 0 } } })).toBe(`${bad}services.portrait.burst`);
  expect(await refused({ services: { portrait: { burst: null } } })).toBe(`${bad}services.portrait.burst`);
  expect(await refused({ services: { portrait: { price: 1 } } })).toBe(`${bad}services.portrait.price`);
  expect(await refused({ services: { portrait: { results_per_month: 1 } } })).toBe(
    `${bad}services.portrait.results_per_month`,
  );
  expect(await refused({ services: { portrait: { jobs_waiting: 1 } } })).toBe(`${bad}services.portrait.jobs_waiting`);
  expect(await refused({ services: { "No Id": {} } })).toBe(`${bad}services.No Id`);
  expect(await refused({ services: null })).toBe(`${bad}services`);
  expect(await refused({ per_address: 0 })).toBe(`${bad}per_address`);
  expect(await refused({ cost_per_month: -1 })).toBe(`${bad}cost_per_month`);
  const many = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`s${i}`, { burst: 1 }]));
  expect(await refused({ services: many })).toBe(`${bad}services`);
  expect((await door.done("GET", `/tenants/${made.id}`)).limits).toHaveProperty("services", {
    cosyvoice2: { concurrent: 1 },
  });
});

test("a tenant stored with a per-service jobs_waiting keeps its other limits and loses that one", async () => {
  const id = await newTenant();
  const stored = { burst: 5, services: { portrait: { concurrent: 2, jobs_waiting: 3 } } };
  await door.rows("UPDATE tenants SET limits = ? WHERE id = ?", JSON.stringify(stored), id);
  const services = { portrait: { concurrent: 2 } };
  const shown = await door.done("GET", `/tenants/${id}`);
  expect(shown.limits).toMatchObject({ burst: 5, jobs_waiting: 1000, services });
  expect(shown.limits).toHaveProperty("services", services);
  expect(await opens(await newKey(id))).toBe("open");
  await door.done("PATCH", `/tenants/${id}`, { limits: { waiting: 1 } });
  const [row] = await door.rows("SELECT limits FROM tenants WHERE id = ?", id);
  expect(JSON.parse(String(row?.limits))).toMatchObject({ burst: 5, waiting: 1 });
  expect(JSON.parse(String(row?.limits))).toHaveProperty("services", services);
});

test("a disabled tenant's keys are refused until the tenant is active again", async () => {
  const id = await newTenant();
  const key = await newKey(id);
  expect(await opens(key)).toBe("open");
  await door.done("PATCH", `/tenants/${id}`, { state: "disabled" });
  expect(await opens(key)).toBe("tenant_disabled");
  await door.done("PATCH", `/tenants/${id}`, { state: "active" });
  expect(await opens(key)).toBe("open");
});

test("a new key works and is shown only once", async () => {
  const id = await newTenant();
  const { status, json } = await door.admin("POST", `/tenants/${id}/keys`, {
    name: "site",
    scopes: ["infer"],
    services: ["portrait"],
  });
  expect(status).toBe(201);
  expect(json).toMatchObject({
    tenant: id,
    name: "site",
    scopes: ["infer"],
    services: ["portrait"],
    state: "active",
    created_by: "admin",
  });
  const key = json.key;
  expect(key).toMatch(KEY);
  expect(json.tail).toBe(key.slice(-4));
  expect(await opens(json)).toBe("open");
  const [row] = await door.rows("SELECT * FROM keys WHERE id = ?", json.id);
  const told = [
    await door.admin("GET", `/keys?tenant=${id}`),
    await door.admin("GET", "/audit"),
    { text: JSON.stringify(row) },
  ];
  for (const { text } of told) expect(text).not.toContain(key);
  for (const { text } of told.slice(0, 2)) expect(text).not.toContain(String(row?.hash));
});

test("a key for an unknown tenant or with invalid fields is not created", async () => {
  const id = await newTenant();
  const refused = (body: object, tenant = id) => door.refusal("POST", `/tenants/${tenant}/keys`, body);
  expect(await refused({}, "ten_nobody")).toBe("404 not_found");
  expect(await refused({ scope: ["infer"] })).toBe("400 invalid_field scope");
  expect(await refused({ scopes: ["root"] })).toBe("400 invalid_field scopes.0");
  expect(await refused({ scopes: [] })).toBe("400 invalid_field scopes");
  expect(await refused({ expires_at: "tomorrow" })).toBe("400 invalid_field expires_at");
});

test("a key created without a body has all scopes and no expiry", async () => {
  const { status, json } = await door.admin("POST", `/tenants/${await newTenant()}/keys`);
  expect(status).toBe(201);
  expect(json).toMatchObject({ name: null, scopes: null, services: null, expires_at: null });
});

test("after rotation with an overlap both keys work; without one only the new key works", async () => {
  const id = await newTenant();
  const old = await newKey(id, { name: "site", scopes: ["infer", "results"] });
  const next = await door.admin("POST", `/keys/${old.id}/rotate`, { overlap_s: 60 });
  expect(next.status).toBe(201);
  expect(next.json).toMatchObject({ tenant: id, name: "site", scopes: ["infer", "results"], rotated_from: old.id });
  expect([await opens(old), await opens(next.json)]).toEqual(["open", "open"]);
  const [listed] = (await door.done("GET", `/keys?tenant=${id}`)).data;
  const leftMs = Date.parse(listed?.expires_at ?? "") - Date.now();
  expect(leftMs).toBeGreaterThan(50_000);
  expect(leftMs).toBeLessThanOrEqual(60_000);

  const last = await door.done("POST", `/keys/${next.json.id}/rotate`, {});
  expect([await opens(next.json), await opens(last)]).toEqual(["revoked", "open"]);
  expect(await door.refusal("POST", `/keys/${next.json.id}/rotate`)).toBe("400 invalid_field id");
});

test("a key rotated again during its overlap passes on its original expiry, not the end of the overlap", async () => {
  const old = await newKey(await newTenant());
  await door.done("POST", `/keys/${old.id}/rotate`, { overlap_s: 60 });
  const again = await door.done("POST", `/keys/${old.id}/rotate`, { overlap_s: 3600 });
  expect(again.expires_at).toBeNull();
  const timely = await newKey(await newTenant(), { expires_at: "2099-01-01T00:00:00.000Z" });
  await door.done("POST", `/keys/${timely.id}/rotate`, { overlap_s: 60 });
  expect((await door.done("POST", `/keys/${timely.id}/rotate`)).expires_at).toBe("2099-01-01T00:00:00.000Z");
});

test("a disabled key cannot be rotated, because its successor would be active", async () => {
  const key = await newKey(await newTenant());
  await door.done("PATCH", `/keys/${key.id}`, { state: "disabled" });
  expect(await door.refusal("POST", `/keys/${key.id}/rotate`, { overlap_s: 60 })).toBe("400 invalid_field id");
});

test("an overlap never extends the life of a key", async () => {
  const expires_at = new Date(Date.now() + 30_000).toISOString();
  const old = await newKey(await newTenant(), { expires_at });
  const next = await door.done("POST", `/keys/${old.id}/rotate`, { overlap_s: 3600 });
  expect(next.expires_at).toBe(expires_at);
  const [row] = await door.rows("SELECT expires_at FROM keys WHERE id = ?", old.id);
  expect(row?.expires_at).toBe(Date.parse(expires_at));
});

test("a revoked key is refused, stays listed and stays revoked", async () => {
  const id = await newTenant();
  const key = await newKey(id);
  expect(await opens(key)).toBe("open");
  expect((await door.admin("DELETE", `/keys/${key.id}`)).status).toBe(204);
  expect(await opens(key)).toBe("revoked");
  expect((await door.admin("DELETE", `/keys/${key.id}`)).status).toBe(204);
  expect(await door.refusal("PATCH", `/keys/${key.id}`, { state: "active" })).toBe("400 invalid_field id");
  expect((await door.done("GET", `/keys?tenant=${id}`)).data).toMatchObject([{ id: key.id, state: "revoked" }]);
  expect(await door.refusal("DELETE", "/keys/nothing")).toBe("404 not_found");
});

test("a patch changes only the given fields of a key and takes effect at once", async () => {
  const key = await newKey(await newTenant(), { name: "a", services: ["portrait"] });
  expect(await door.done("PATCH", `/keys/${key.id}`, { name: null, scopes: ["usage"] })).toMatchObject({
    name: null,
    scopes: ["usage"],
    services: ["portrait"],
  });
  expect(await opens(key)).toBe("scope");
  await door.done("PATCH", `/keys/${key.id}`, { scopes: null, expires_at: "2020-01-01T00:00:00Z" });
  expect(await opens(key)).toBe("expired");
  await door.done("PATCH", `/keys/${key.id}`, { expires_at: null });
  expect(await opens(key)).toBe("open");
  await door.done("PATCH", `/keys/${key.id}`, { state: "disabled" });
  expect(await opens(key)).toBe("revoked");
});

test("deleting a tenant removes its keys, its results and its answers, and leaves those of other tenants", async () => {
  const [id, other] = [await newTenant(), await newTenant()];
  const key = await newKey(id);
  expect(await opens(key)).toBe("open");
  const bucket = await door.runtime.mf.getR2Bucket("RESULTS");
  const kept = ["results/aaa", `${id}/answers/f1`, "shared/answers/f1", "results/bbb", "shared/answers/f2"];
  for (const path of kept) await bucket.put(path, "bytes");
  const result =
    "INSERT INTO results VALUES (?, ?, 's', 'r', NULL, 'image/png', 5, 'x', 'signed', NULL, 1, 9e12) RETURNING id";
  await door.rows(result, "aaa", id);
  await door.rows(result, "bbb", other);
  const answer = "INSERT INTO answers VALUES (?, ?, 's', NULL, 5, 1, 9e12) RETURNING key";
  for (const [path, maker] of [
    [kept[1], id],
    [kept[2], id],
    [kept[4], other],
  ])
    await door.rows(answer, path, maker);

  expect((await door.admin("DELETE", `/tenants/${id}`)).status).toBe(204);
  expect(await opens(key)).toBe("unknown");
  expect((await door.admin("GET", `/tenants/${id}`)).status).toBe(404);
  expect((await door.done("GET", `/keys?tenant=${id}`)).data).toEqual([]);
  const { objects } = await bucket.list();
  expect(objects.map((object) => object.key).toSorted()).toEqual(["results/bbb", "shared/answers/f2"]);
  expect(await door.rows("SELECT id FROM results")).toEqual([{ id: "bbb" }]);
  expect(await door.rows("SELECT key FROM answers")).toEqual([{ key: "shared/answers/f2" }]);
  expect((await door.admin("DELETE", `/tenants/${id}`)).status).toBe(404);
});

test("deleting a tenant removes all its results even if they exceed one batch", async () => {
  const id = await newTenant();
  const many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)";
  await door.rows(
    `${many} INSERT INTO results SELECT 'm' || i, ?, 's', 'r', NULL, 'image/png', 5, 'x', 'signed', NULL, 1, 9e12 FROM n RETURNING id`,
    id,
  );
  await door.rows(
    `${many} INSERT INTO answers SELECT ? || '/answers/' || i, ?, 's', NULL, 5, 1, 9e12 FROM n RETURNING key`,
    id,
    id,
  );
  expect((await door.admin("DELETE", `/tenants/${id}`)).status).toBe(204);
  expect(await door.rows("SELECT count(*) AS n FROM results WHERE tenant_id = ?", id)).toEqual([{ n: 0 }]);
  expect(await door.rows("SELECT count(*) AS n FROM answers WHERE tenant_id = ?", id)).toEqual([{ n: 0 }]);
});
