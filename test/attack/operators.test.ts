/** Attacks on the admin API: without an operator's token every call gets the same 401 and changes nothing. */
import { beforeAll, describe, expect, test } from "vitest";
import { doorway, errorOf, expectOk } from "../contract/doorway.ts";
import { configured, filled, type Operation, operationsOf, sentOf, SERVICE_PATH } from "./operations.ts";

const door = doorway();
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

let calls: Operation[];
let cardToken: string;
/** An existing id per collection. */
let real: Record<string, string>;

beforeAll(async () => {
  const origin = "http://127.0.0.1:9";
  await door.portico.admin("PUT", "/services/quiet", { kind: "http", route: "/quiet/" });
  const { token }: { token: string } = await door.portico.admin("PUT", "/services/quiet/cards/quiet-1", { origin });
  await door.portico.admin("PUT", "/services/quiet/cards/quiet-2", { origin });
  cardToken = token;
  calls = await operationsOf(door);
  const tenant = await door.tenant();
  const { id }: { id: string } = await door.portico.admin("POST", `/tenants/${tenant}/keys`, {});
  real = { services: "quiet", cards: "quiet-1", tenants: tenant, keys: id };
});

const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

/** Headers of callers that do not present an operator's token as required. */
function intruders(): Record<string, Record<string, string>> {
  const [key, token] = [door.ownKey, door.portico.adminToken];
  return {
    nobody: {},
    "a tenant": bearer(key),
    "a tenant by X-API-Key": { "x-api-key": key },
    "a tenant by password": { authorization: `Basic ${btoa(`admin:${key}`)}` },
    "a card": bearer(cardToken),
    "the token by X-API-Key": { "x-api-key": token },
    "the token by password": { authorization: `Basic ${btoa(`admin:${token}`)}` },
    "the token as a Key": { authorization: `Key ${token}` },
    "the token without a scheme": { authorization: token },
    "the token and a tenant": { ...bearer(token), "x-api-key": key },
    "the token in capitals": bearer(token.toUpperCase() === token ? token.toLowerCase() : token.toUpperCase()),
    "the token cut": bearer(token.slice(0, -1)),
    "the token and a letter": bearer(`${token}a`),
    "the token twice": bearer(`${token}, Bearer ${token}`),
    "the token in a cookie": { cookie: `authorization=Bearer ${token}` },
    "who says to come through Access": {
      "cf-access-authenticated-user-email": "admin@example.com",
      "cf-access-jwt-assertion": "eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImFkbWluQGV4YW1wbGUuY29tIn0.",
    },
    "who says to be an operator": { "x-portico-operator": "admin", "x-actor": "admin", "x-role": "admin" },
  };
}

function ask(call: Operation, ids: Record<string, string>, headers: Record<string, string>, query = "") {
  return door.ask(filled(call.path, ids) + query, { key: null, ...sentOf(call), headers });
}

const beat = (card: string, key: string) =>
  door.ask(`/admin/v1/cards/${card}/heartbeat`, { key, json: { running: 0 } });

describe("every admin call gets 401", () => {
  test(
    "without an operator's token, whether its ids exist or not, and changes nothing",
    { timeout: 60_000 },
    async () => {
      const before = await configured(door);
      const admin = calls.filter(({ of }) => of === "operator");
      expect(admin.length).toBeGreaterThan(20);
      for (const call of admin) {
        for (const [who, headers] of Object.entries(intruders())) {
          const at = `${call.method} ${call.path} by ${who}`;
          const [a, b] = await Promise.all([ask(call, real, headers), ask(call, {}, headers)]);
          expect([a.status, b.status], at).toEqual([401, 401]);
          expect(a.text.length, at).toBe(b.text.length);
          if (call.method !== "HEAD") expect(errorOf(a), at).toMatchObject({ code: "invalid_api_key" });
        }
      }
      expect(await configured(door)).toEqual(before);
    },
  );

  test("with the token in the query string", async () => {
    for (const call of calls.filter(({ of }) => of === "operator")) {
      for (const name of ["token", "access_token", "key", "authorization"]) {
        const answer = await ask(call, real, {}, `?${name}=${door.portico.adminToken}`);
        expect(answer.status, `${call.method} ${call.path}`).toBe(401);
      }
    }
  });

  test("for unknown methods and paths too, so that the answer does not reveal which exist", async () => {
    const paths = new Set(calls.filter(({ path }) => path.startsWith("/admin")).map(({ path }) => path));
    const more = ["/admin", "/admin/", "/admin/v1", "/admin/v1/nothing", "/admin/v2/services", "/%61dmin/v1/tenants"];
    for (const path of [...paths, ...more]) {
      for (const method of METHODS) {
        const answer = await door.ask(filled(path, "x"), { method });
        expect(answer.status, `${method} ${path}`).toBe(401);
        expect(answer.header("allow")).toBe(null);
      }
    }
  });
});

describe("a card's token", () => {
  test("opens that card's heartbeat and nothing else", async () => {
    expect((await beat("quiet-1", cardToken)).status).toBe(204);
    const refused = [await beat("quiet-2", cardToken), await beat("nothing", cardToken)];
    expect(refused.map(errorOf)).toMatchObject([{ reason: "unknown" }, { reason: "unknown" }]);
    const [another, none] = refused.map(({ text }) => text.length);
    expect(another).toBe(none);
    for (const key of [door.ownKey, door.portico.adminToken, `${cardToken}x`, cardToken.toLowerCase()]) {
      expect((await beat("quiet-1", key)).status).toBe(401);
    }
    for (const call of calls.filter(({ of }) => of !== "nobody" && of !== "card")) {
      const answer = await ask(call, real, { authorization: `Bearer ${cardToken}` });
      expect(answer.status, `${call.method} ${call.path}`).toBe(call.path === SERVICE_PATH ? 404 : 401);
    }
  });
});

describe("the admin token", () => {
  test("is not a tenant key: it opens no service and no result", async () => {
    const key = door.portico.adminToken;
    const before = door.starts();
    expect((await door.paint({}, { key })).status).toBe(401);
    for (const call of calls.filter(({ of, path }) => of === "tenant" && path !== SERVICE_PATH)) {
      expect((await ask(call, real, { authorization: `Bearer ${key}` })).status, call.path).toBe(401);
    }
    expect(door.starts()).toBe(before);
    expectOk(await door.ask("/admin/v1/tenants", { key }));
  });
});
