/** What a key may do, and when it stops working. */
import { describe, expect, test } from "vitest";
import { doorway, errorOf, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

const door = doorway();
const READ = "/sdapi/v1/sd-models";
const REVOKED_MS_MAX = 10_000;
const POLL_MS = 200;
const SCOPE = "403 forbidden permission_error scope";
const SERVICE = "403 forbidden permission_error service";
const FINGERPRINT = { service: "portrait", path: "txt2img", input: { seed: 1 } };

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Creates a key and returns it with its id. */
async function newKey(tenant: string, body: object = {}): Promise<{ id: string; key: string }> {
  return door.portico.admin("POST", `/tenants/${tenant}/keys`, body);
}

async function until(reason: string, key: string, msMax: number): Promise<void> {
  const start = performance.now();
  for (;;) {
    const answer = await door.ask(READ, { key });
    if (answer.status !== 200) {
      expect(refusalOf(answer)).toBe(`401 invalid_api_key authentication_error ${reason}`);
      return;
    }
    expect(performance.now() - start, `still works, not ${reason}`).toBeLessThan(msMax);
    await sleep(POLL_MS);
  }
}

/** Creates a result, and a key of the same tenant with these scopes. */
async function scoped(scopes: string[]) {
  const tenant = await door.tenant();
  const { key: full } = await newKey(tenant);
  const { key } = await newKey(tenant, { scopes });
  const painted = expectOk(await door.paint({}, { key: full }));
  const [url = ""] = linksOf(painted);
  const ask = (target: string, sent: object = {}) => door.ask(target, { key, ...sent });
  return { key, ask, url, path: new URL(url).pathname, id: painted.header("x-request-id") ?? "" };
}

test("a key works until it expires and then gets 401 expired", async () => {
  const key = await door.key({ expires_at: new Date(Date.now() + 2_000).toISOString() });
  expectOk(await door.ask(READ, { key }));
  await until("expired", key, 4_000);
});

test("a revoked key gets 401 revoked on every call within 10 s; another key of its tenant still works", async () => {
  const tenant = await door.tenant();
  const { id, key } = await newKey(tenant);
  const other = await newKey(tenant);
  expectOk(await door.ask(READ, { key }));
  const [url = ""] = linksOf(expectOk(await door.paint({}, { key })));
  await door.portico.admin("DELETE", `/keys/${id}`);
  await until("revoked", key, REVOKED_MS_MAX);
  const calls = [
    door.paint({}, { key }),
    door.speak({ text: "revoked" }, { key }),
    door.ask("/v1/fingerprint", { key, json: FINGERPRINT }),
    door.ask("/v1/requests/any", { key }),
    door.ask(new URL(url).pathname, { key }),
    door.ask(new URL(url).pathname, { key, method: "DELETE" }),
  ];
  for (const answer of await Promise.all(calls)) {
    expect(refusalOf(answer)).toBe("401 invalid_api_key authentication_error revoked");
  }
  expectOk(await door.ask(READ, { key: other.key }));
});

test("a revoked key cannot read a stored answer", async () => {
  const tenant = await door.tenant();
  const { id, key } = await newKey(tenant);
  const json = picture();
  expectOk(await door.paint(json, { key }));
  expect((await door.paint(json, { key })).header("cache-status")).toContain("hit");
  await door.portico.admin("DELETE", `/keys/${id}`);
  await until("revoked", key, REVOKED_MS_MAX);
  expect((await door.paint(json, { key })).status).toBe(401);
});

test("the keys of a disabled tenant get 403 tenant_disabled within 10 s", async () => {
  const tenant = await door.tenant();
  const { key } = await newKey(tenant);
  expectOk(await door.ask(READ, { key }));
  await door.portico.admin("PATCH", `/tenants/${tenant}`, { state: "disabled" });
  const start = performance.now();
  let answer = await door.ask(READ, { key });
  while (answer.status === 200 && performance.now() - start < REVOKED_MS_MAX) {
    await sleep(POLL_MS);
    answer = await door.ask(READ, { key });
  }
  expect(refusalOf(answer)).toBe("403 forbidden permission_error tenant_disabled");
});

test("a running request of a disabled tenant completes, and its result is kept", async () => {
  const tenant = await door.tenant();
  const { key } = await newKey(tenant);
  const before = door.starts();
  door.park.setService({ service_ms: 2_000 });
  const running = door.paint({}, { key });
  while (door.starts() === before) await sleep(POLL_MS / 10);
  door.park.setService({ service_ms: null });
  await door.portico.admin("PATCH", `/tenants/${tenant}`, { state: "disabled" });
  expect(refusalOf(await door.ask(READ, { key }))).toBe("403 forbidden permission_error tenant_disabled");
  const painted = expectOk(await running);
  const [url = ""] = linksOf(painted);
  expectOk(await door.ask(targetOf(url), { key: null }));
});

describe("scopes:", () => {
  test("infer allows service routes, fingerprint, requests and deleting a result, but not reading one", async () => {
    const { key, ask, path, id } = await scoped(["infer"]);
    expectOk(await door.paint({}, { key }));
    expectOk(await ask(READ));
    expectOk(await ask("/v1/fingerprint", { json: FINGERPRINT }));
    expectOk(await ask(`/v1/requests/${id}`));
    expect(refusalOf(await ask(path))).toBe(SCOPE);
    expect((await ask(path, { method: "HEAD" })).status).toBe(403);
    expect((await ask(path, { method: "DELETE" })).status).toBeLessThan(300);
  });

  test("results allows reading results and nothing else", async () => {
    const { key, ask, path, id } = await scoped(["results"]);
    expectOk(await ask(path));
    expect((await ask(path, { method: "HEAD" })).status).toBe(200);
    expect(refusalOf(await door.paint({}, { key }))).toBe(SCOPE);
    expect(refusalOf(await door.speak({ text: "scope" }, { key }))).toBe(SCOPE);
    expect(refusalOf(await ask(READ))).toBe(SCOPE);
    expect(refusalOf(await ask("/v1/fingerprint", { json: FINGERPRINT }))).toBe(SCOPE);
    expect(refusalOf(await ask(`/v1/requests/${id}`))).toBe(SCOPE);
    expect(refusalOf(await ask(path, { method: "DELETE" }))).toBe(SCOPE);
  });

  for (const scope of ["jobs", "usage"]) {
    test(`${scope} allows neither service routes nor results`, async () => {
      const { key, ask, path, id } = await scoped([scope]);
      const calls = [
        door.paint({}, { key }),
        ask(READ),
        ask(`/v1/requests/${id}`),
        ask(path),
        ask(path, { method: "DELETE" }),
      ];
      for (const answer of await Promise.all(calls)) expect(refusalOf(answer)).toBe(SCOPE);
    });
  }

  test("a signed URL needs no scope, because it needs no key", async () => {
    const { url } = await scoped(["usage"]);
    expectOk(await door.ask(targetOf(url), { key: null }));
  });
});

describe("a key with a list of services", () => {
  test("may use those services", async () => {
    const key = await door.key({ services: ["portrait"] });
    expectOk(await door.paint({}, { key }));
    expectOk(await door.ask("/v1/fingerprint", { key, json: FINGERPRINT }));
  });

  test("gets 403 service for any other service, before anything runs", async () => {
    const key = await door.key({ services: ["cosyvoice2"] });
    const before = door.starts();
    expect(refusalOf(await door.paint({}, { key }))).toBe(SERVICE);
    expect(refusalOf(await door.ask(READ, { key }))).toBe(SERVICE);
    expect(refusalOf(await door.ask("/v1/fingerprint", { key, json: FINGERPRINT }))).toBe(SERVICE);
    expect(door.starts()).toBe(before);
  });

  test("gets 403 service for results and requests of any other service, and cannot delete them", async () => {
    const tenant = await door.tenant();
    const { key } = await newKey(tenant);
    const { key: limited } = await newKey(tenant, { services: ["cosyvoice2"] });
    const painted = expectOk(await door.paint({}, { key }));
    const spoken = expectOk(await door.speak({ text: "limited" }, { key }));
    const [url = "", sound = ""] = [painted, spoken].flatMap(linksOf);
    const { pathname } = new URL(url);
    const [image, speech] = [painted, spoken].map((answer) => `/v1/requests/${answer.header("x-request-id")}`);
    expect(refusalOf(await door.ask(pathname, { key: limited }))).toBe(SERVICE);
    expect((await door.ask(pathname, { key: limited, method: "HEAD" })).status).toBe(403);
    expect(refusalOf(await door.ask(pathname, { key: limited, headers: { range: "bytes=0-1" } }))).toBe(SERVICE);
    expect(refusalOf(await door.ask(pathname, { key: limited, method: "DELETE" }))).toBe(SERVICE);
    expect(refusalOf(await door.ask(image ?? "", { key: limited }))).toBe(SERVICE);
    expectOk(await door.ask(pathname, { key }));
    expectOk(await door.ask(targetOf(url), { key: null }));
    expectOk(await door.ask(new URL(sound).pathname, { key: limited }));
    expectOk(await door.ask(speech ?? "", { key: limited }));
    expect((await door.ask(new URL(sound).pathname, { key: limited, method: "DELETE" })).status).toBe(204);
  });

  test("gets 404 for another tenant's results", async () => {
    const key = await door.key({ services: ["cosyvoice2"] });
    const [url = ""] = linksOf(expectOk(await door.paint({})));
    for (const method of ["GET", "DELETE"]) {
      expect((await door.ask(new URL(url).pathname, { key, method })).status, method).toBe(404);
    }
  });

  test("gains no service from a key in the body or from tenant and service headers", async () => {
    const key = await door.key({ services: ["cosyvoice2"] });
    const headers = { "x-tenant": "admin", "x-portico-tenant": "admin", "x-portico-service": "cosyvoice2" };
    expect(errorOf(await door.paint({ key: door.ownKey, tenant: "x" }, { key, headers })).reason).toBe("service");
  });
});
