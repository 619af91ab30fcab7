import { expect, test } from "vitest";
import { raw } from "../support/raw.ts";
import { startTeam } from "./access-team.ts";
import { frontDoor, SECRETS } from "./front-door.ts";

const door = frontDoor();

const CALLS: [method: string, path: string, body?: object][] = [
  ["GET", "/services"],
  ["PUT", "/services/x", { kind: "http", route: "/x/" }],
  ["GET", "/services/x"],
  ["DELETE", "/services/x"],
  ["POST", "/services/x/pause"],
  ["POST", "/services/x/resume"],
  ["PUT", "/services/x/cards/c", { origin: "https://gpu.example.com" }],
  ["DELETE", "/services/x/cards/c"],
  ["GET", "/cards"],
  ["GET", "/cards/c"],
  ["PATCH", "/cards/c", { slots: 1 }],
  ["POST", "/cards/c/token"],
  ["GET", "/tenants"],
  ["POST", "/tenants", { name: "x" }],
  ["GET", "/tenants/t"],
  ["PATCH", "/tenants/t", { name: "y" }],
  ["DELETE", "/tenants/t"],
  ["POST", "/tenants/t/keys", {}],
  ["GET", "/keys"],
  ["POST", "/keys/k/rotate", {}],
  ["PATCH", "/keys/k", { name: "z" }],
  ["DELETE", "/keys/k"],
  ["GET", "/operators"],
  ["POST", "/operators", { name: "x", role: "admin" }],
  ["GET", "/operators/o"],
  ["PATCH", "/operators/o", { role: "admin" }],
  ["DELETE", "/operators/o"],
  ["POST", "/operators/o/rotate", {}],
  ["GET", "/leases"],
  ["GET", "/audit"],
  ["GET", "/nothing"],
  ["OPTIONS", "/services"],
];

test("every admin API call requires the operator's token", async () => {
  const tenant = await door.done("POST", "/tenants", { name: "t" });
  const key = (await door.done("POST", `/tenants/${tenant.id}/keys`, {})).key;
  for (const [method, path, body] of CALLS) {
    const refused = (sent: object) => door.refusal(method, path, body, sent);
    expect(await refused({ token: null }), `${method} ${path}`).toBe("401 missing");
    expect(await refused({ token: key }), `${method} ${path} with a tenant's key`).toBe("401 unknown");
    expect(await refused({ token: `${SECRETS.ADMIN_TOKEN}x` }), `${method} ${path} with a wrong token`).toBe(
      "401 unknown",
    );
  }
  const { data } = await door.done("GET", "/tenants");
  expect(data).toHaveLength(1);
});

test("only one well-formed bearer token is accepted", async () => {
  const refused = (headers: Record<string, string>) =>
    door.refusal("GET", "/services", undefined, { token: null, headers });
  const token = SECRETS.ADMIN_TOKEN;
  expect(await refused({ authorization: `Basic ${btoa(`admin:${token}`)}` })).toBe("401 malformed");
  expect(await refused({ authorization: token })).toBe("401 malformed");
  expect(await refused({ authorization: "Bearer " })).toBe("401 malformed");
  expect(await refused({ authorization: `Bearer ${token}, Bearer ${token}` })).toBe("401 malformed");
  expect(await refused({ "x-api-key": token })).toBe("401 malformed");
  expect(await refused({ authorization: `Bearer ${token}`, "x-api-key": "ptk_live_x" })).toBe("401 malformed");
  expect(await refused({ authorization: `Bearer ${"a".repeat(8000)}` })).toBe("401 unknown");
  const ok = await door.admin("GET", "/services", undefined, {
    token: null,
    headers: { authorization: `bearer ${token}` },
  });
  expect(ok.status).toBe(200);
});

test("without a configured Access application, Access assertions, cookies and e-mail headers are ignored", async () => {
  const team = await startTeam();
  const assertion = await team.assertion({ email: "day-shift@example.com" });
  await door.done("POST", "/operators", { name: "day-shift", role: "admin", email: "day-shift@example.com" });
  const headers = {
    "cf-access-jwt-assertion": assertion,
    cookie: `CF_Authorization=${assertion}`,
    "cf-access-authenticated-user-email": "day-shift@example.com",
  };
  expect(await door.refusal("GET", "/services", undefined, { token: null, headers })).toBe("401 missing");
  expect((await door.admin("GET", "/services", undefined, { headers })).status).toBe(200);
  expect(team.asked()).toBe(0);
  team.close();
});

test("a 401 names the scheme, is not cacheable and carries the request id", async () => {
  const { status, headers, json } = await door.admin("GET", "/services", undefined, { token: null });
  expect(status).toBe(401);
  expect(json.error).toMatchObject({
    code: "invalid_api_key",
    type: "authentication_error",
    reason: "missing",
    request_id: headers.get("x-request-id"),
  });
  expect(headers.get("www-authenticate")).toContain("Bearer");
  expect(headers.get("cache-control")).toBe("no-store");
});

test("an unknown path gets 404, and a wrong method gets 405 with an Allow header", async () => {
  expect(await door.refusal("GET", "/nothing")).toBe("404 not_found");
  const { status, headers, json } = await door.admin("PATCH", "/services/x", {});
  expect([status, json.error?.reason]).toEqual([405, "method_not_allowed"]);
  expect(headers.get("allow")?.split(", ").toSorted()).toEqual(["DELETE", "GET", "HEAD", "PUT"]);
});

test("a request body must be JSON, be declared as JSON, and stay within the size limit", async () => {
  const put = (text: string, type = "application/json") =>
    door.refusal("PUT", "/services/body", undefined, { text, headers: { "content-type": type } });
  const good = '{"kind":"http","route":"/body/"}';
  expect(await put("{")).toBe("400 malformed_json body");
  expect(await put("")).toBe("400 malformed_json body");
  expect(await put("[]")).toBe("400 invalid_field body");
  expect(await put("null")).toBe("400 invalid_field body");
  expect(await put(`{"defaults":${"[".repeat(5000)}${"]".repeat(5000)}}`)).toBe("400 malformed_json body");
  expect(await put(good, "text/plain")).toBe("415 unsupported_media_type");
  expect(await put(good, "application/x-www-form-urlencoded")).toBe("415 unsupported_media_type");
  expect(await put(JSON.stringify({ defaults: { a: "x".repeat(1024 * 1024) } }))).toBe("413 body_too_large");
  expect((await door.admin("GET", "/services/body")).status).toBe(404);
  const taken = await door.admin("PUT", "/services/body", undefined, {
    text: good,
    headers: { "content-type": "application/json; charset=utf-8" },
  });
  expect(taken.status).toBe(201);
});

test("the size limit also applies to a body without a declared length", async () => {
  const chunk = `${(1024 * 1024).toString(16)}\r\n${"x".repeat(1024 * 1024)}\r\n`;
  const answer = await raw(door.runtime.url, {
    method: "PUT",
    target: "/admin/v1/services/body",
    headers: {
      authorization: `Bearer ${SECRETS.ADMIN_TOKEN}`,
      "content-type": "application/json",
      "transfer-encoding": "chunked",
    },
    body: `${chunk}${chunk}0\r\n\r\n`,
  });
  expect(answer.status).toBe(413);
});
