/** Operators through Cloudflare Access: only assertions signed by the team for this application are accepted. */
import { createHmac } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AUDIENCE, startTeam } from "./access-team.ts";
import { frontDoor, SECRETS } from "./front-door.ts";

const team = await startTeam();
afterAll(() => team.close());
const door = frontDoor({ vars: { ACCESS_TEAM_DOMAIN: team.issuer, ACCESS_AUD: AUDIENCE } });

const DAY_SHIFT = "day-shift@example.com";

beforeAll(async () => {
  await door.done("POST", "/operators", { name: "day-shift", role: "admin", email: DAY_SHIFT, token: false });
  await door.done("POST", "/operators", { name: "robot", role: "read", email: "abc123.access", token: false });
});

type Headers = Record<string, string>;
const inHeader = (assertion: string): Headers => ({ "cf-access-jwt-assertion": assertion });

/** Returns the status, or status and reason, of a call with these headers and no token. */
async function said(headers: Headers, method = "GET", path = "/services", body?: object): Promise<string> {
  const { status, json } = await door.admin(method, path, body, { token: null, headers });
  return json.error === undefined ? String(status) : `${status} ${json.error.reason}`;
}

/** Encodes one part of a JWT. */
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);
const claims = () => ({ aud: [AUDIENCE], iss: team.issuer, iat: now(), exp: now() + 300, email: DAY_SHIFT });

test("an RS256 or ES256 assertion in the header or cookie identifies the operator by e-mail", async () => {
  for (const kid of ["rsa", "ec"]) {
    const assertion = await team.assertion({ email: "Day-Shift@Example.com" }, { kid });
    expect(await said(inHeader(assertion)), kid).toBe("200");
    expect(await said({ cookie: `theme=dark; CF_Authorization=${assertion}` }), kid).toBe("200");
  }
  expect(team.asked()).toBe(1);
});

test("a service token is identified by its common name and has its operator's role", async () => {
  const robot = inHeader(await team.assertion({ common_name: "abc123.access", sub: "" }));
  expect(await said(robot)).toBe("200");
  const own = { ...robot, origin: door.runtime.url, "content-type": "application/json" };
  expect(await said(own, "POST", "/tenants", { name: "t" })).toBe("403 role");
});

test("a valid assertion without an active operator gets 403 role, or 401 expired", async () => {
  expect(await said(inHeader(await team.assertion({ email: "stranger@example.com" })))).toBe("403 role");
  const { id } = await door.done("POST", "/operators", { name: "gone", role: "read", email: "gone@example.com" });
  const gone = inHeader(await team.assertion({ email: "gone@example.com" }));
  expect(await said(gone)).toBe("200");
  await door.done("DELETE", `/operators/${id}`);
  expect(await said(gone)).toBe("403 role");
  const past = { name: "past", role: "read", email: "past@example.com", expires_at: "2020-01-01T00:00:00Z" };
  await door.done("POST", "/operators", past);
  expect(await said(inHeader(await team.assertion({ email: "past@example.com" })))).toBe("401 expired");
});

test("an expired or premature assertion, or one with a wrong audience, issuer or identity, is refused", async () => {
  const refused = async (change: object) => said(inHeader(await team.assertion({ email: DAY_SHIFT, ...change })));
  expect(await refused({ exp: now() - 60 })).toBe("401 expired");
  // A small clock difference is tolerated.
  expect(await refused({ exp: now() - 5 })).toBe("200");
  expect(await refused({ nbf: now() + 300 })).toBe("401 malformed");
  expect(await refused({ exp: undefined })).toBe("401 malformed");
  expect(await refused({ aud: ["another"] })).toBe("401 malformed");
  expect(await refused({ aud: undefined })).toBe("401 malformed");
  expect(await refused({ iss: "https://another.cloudflareaccess.com" })).toBe("401 malformed");
  expect(await refused({ iss: `${team.issuer}/` })).toBe("401 malformed");
  expect(await refused({ email: undefined })).toBe("401 malformed");
  expect(await refused({ email: [DAY_SHIFT] })).toBe("401 malformed");
});

test("an assertion that the team did not sign is refused", async () => {
  const good = await team.assertion({ email: DAY_SHIFT });
  const [head = "", , signature = ""] = good.split(".");
  const unsigned = `${part({ alg: "none" })}.${part(claims())}.`;
  const forged = {
    "other claims": `${head}.${part(claims())}.${signature}`,
    "no signature": `${head}.${part(claims())}.`,
    "alg none": unsigned,
    "alg None": unsigned.replace(part({ alg: "none" }), part({ alg: "None" })),
    "a foreign key": await team.assertion({ email: DAY_SHIFT }, { foreign: true }),
    "half of it": good.slice(0, good.length / 2),
    "not a token": "x",
    "too long": `${good}${"A".repeat(20_000)}`,
    nothing: "",
  };
  for (const [how, assertion] of Object.entries(forged))
    expect(await said(inHeader(assertion)), how).toMatch(/^401 (malformed|missing)$/);
  expect(await said(inHeader(good))).toBe("200");
});

test("a public key is not accepted as an HMAC secret", async () => {
  for (const jwk of team.published) {
    for (const secret of [JSON.stringify(jwk), Object(jwk).n ?? Object(jwk).x]) {
      const body = `${part({ alg: "HS256", kid: Object(jwk).kid })}.${part(claims())}`;
      const mac = createHmac("sha256", String(secret)).update(body).digest("base64url");
      expect(await said(inHeader(`${body}.${mac}`))).toBe("401 malformed");
    }
  }
});

test("assertions with unknown key ids are refused and cause at most one fetch of the keys", async () => {
  const before = team.asked();
  for (let i = 0; i < 20; i++) {
    const assertion = await team.assertion({ email: DAY_SHIFT }, { kid: `new-${i}` });
    expect(await said(inHeader(assertion))).toBe("401 malformed");
  }
  expect(team.asked() - before).toBeLessThanOrEqual(1);
});

test("a bearer token takes precedence over an assertion", async () => {
  const assertion = inHeader(await team.assertion({ email: DAY_SHIFT }));
  const { token } = await door.done("POST", "/operators", { name: "reader", role: "read" });
  const withToken = (given: string) =>
    door.refusal("POST", "/tenants", { name: "t" }, { token: given, headers: assertion });
  expect(await withToken(token)).toBe("403 role");
  expect(await withToken("wrong")).toBe("401 unknown");
  expect(await withToken(SECRETS.ADMIN_TOKEN)).toBe("201");
});

test("a change through Access requires this host's own origin and a JSON content type", async () => {
  const access = inHeader(await team.assertion({ email: DAY_SHIFT }));
  const own = door.runtime.url;
  const json = { "content-type": "application/json" };
  const pause = (headers: Headers) => said({ ...access, ...headers }, "POST", "/services/csrf/pause");
  await door.done("PUT", "/services/csrf", { kind: "http", route: "/csrf/" });
  const refused: Record<string, Headers> = {
    "nothing at all": {},
    "no origin": json,
    "another's page": { ...json, origin: "https://evil.example.com" },
    "no page's": { ...json, origin: "null" },
    "another port's": { ...json, origin: "http://127.0.0.1:1" },
    "a sister host's": { ...json, "sec-fetch-site": "same-site" },
    "cross-site": { ...json, "sec-fetch-site": "cross-site", origin: own },
    "no type": { origin: own, "sec-fetch-site": "same-origin" },
    "a form": { origin: own, "content-type": "application/x-www-form-urlencoded" },
    "a text": { origin: own, "content-type": "text/plain;application/json" },
  };
  for (const [how, headers] of Object.entries(refused)) expect(await pause(headers), how).toBe("403 role");
  expect(await said({ ...access, "sec-fetch-site": "cross-site" }, "DELETE", "/services/csrf")).toBe("403 role");
  expect(await door.done("GET", "/services/csrf")).toMatchObject({ paused: false });

  for (const page of [
    { origin: own },
    { "sec-fetch-site": "same-origin" },
    { origin: own, "sec-fetch-site": "same-origin" },
  ])
    expect(await pause({ ...json, ...page })).toBe("200");
  const [change] = (await door.done("GET", "/audit?target=csrf&limit=1")).data;
  expect(change).toMatchObject({ actor: "day-shift", action: "service.pause" });
});

test("reads through Access need no origin", async () => {
  const access = inHeader(await team.assertion({ email: DAY_SHIFT }));
  expect(await said({ ...access, "sec-fetch-site": "none" })).toBe("200");
  expect(await said(access, "HEAD")).toBe("200");
});

test("every refusal has a Chinese message", async () => {
  const calls: [string, Headers][] = [
    ["GET", inHeader("x")],
    ["GET", inHeader(await team.assertion({ email: "stranger@example.com" }))],
    ["DELETE", inHeader(await team.assertion({ email: DAY_SHIFT }))],
    ["DELETE", { ...inHeader(await team.assertion({ common_name: "abc123.access" })), origin: door.runtime.url }],
  ];
  for (const [method, sent] of calls) {
    const headers = { ...sent, "accept-language": "zh", "content-type": sent["origin"] ? "application/json" : "x/y" };
    const { text } = await door.admin(method, "/services/x", undefined, { token: null, headers });
    const { error }: { error: { message: string } } = JSON.parse(text);
    expect(error.message).toMatch(/[\u4e00-\u9fff]/);
    expect(error.message, error.message).not.toMatch(/assertion|operator|change|require/);
  }
});
