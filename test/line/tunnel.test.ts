import { expect, test } from "vitest";
import { eventually, refusal } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const ACCESS = { client_id: "a1b2.access", client_secret: "s3cr3t-of-the-tunnel" };
const line = openLine({
  park: { servers: 1, gpus: 2 },
  vars: { ACCESS_CLIENT_ID: ACCESS.client_id, ACCESS_CLIENT_SECRET: ACCESS.client_secret },
});
const CARDS = ["gpu-01-0", "gpu-01-1"];

/** A service that reaches the same cards through a tunnel. */
async function tunnelled(config: Record<string, unknown> = {}): Promise<Service> {
  const service = await line.service(config);
  for (const { card, origin } of line.park.cards) {
    await line.portico.admin("PUT", `/services/${service.id}/cards/${card}`, { origin, transport: "tunnel" });
  }
  return service;
}

/** The number of requests that reached the cards, and how many of them had a header of the service token. */
function came(): { requests: number; tokens: number } {
  const heads = CARDS.flatMap((card) => line.park.heads(card));
  return {
    requests: heads.length,
    tokens: heads.filter(({ headers }) => headers.some(([name]) => /^cf-access-client-/i.test(name))).length,
  };
}

test("the service token is sent to origins behind a tunnel and to no others", async () => {
  line.park.setService({ service_ms: 20 });
  const [direct, tunnel] = [await line.service(), await tunnelled()];
  const key = await line.key();
  expect((await line.ask({ service: direct, key })).status).toBe(200);
  expect((await line.ask({ service: direct, key, headers: { "cf-access-client-id": "forged" } })).status).toBe(200);
  expect(came()).toEqual({ requests: 2, tokens: 0 });
  line.park.setToken(ACCESS);
  expect((await line.ask({ service: tunnel, key })).status).toBe(200);
  expect(came()).toEqual({ requests: 3, tokens: 1 });
  line.park.setToken(null);
});

test("a direct request to an origin that demands the token fails, and no run starts", async () => {
  const direct = await line.service();
  const key = await line.key();
  line.park.setToken(ACCESS);
  const answer = await line.ask({ service: direct, key });
  expect(answer.status).not.toBe(200);
  expect(line.park.counts().starts).toBe(0);
  line.park.setToken(null);
});

test.each([
  ["a login redirect", { deny: "login" as const }],
  ["a 403 page", { deny: "page" as const }],
])("an access policy that refuses us with %s is origin_config, and no run starts", async (_, deny) => {
  const service = await tunnelled();
  const key = await line.key();
  line.park.setToken({ client_id: "other", client_secret: "other", ...deny });
  const answer = await line.ask({ service, key });
  expect(refusal(answer)).toBe("502 origin_config");
  expect(JSON.parse(answer.text)).toMatchObject({ error: { started: "no", retryable: false } });
  expect(answer.text).not.toContain("access.example");
  expect(line.park.counts().starts).toBe(0);
  line.park.setToken(null);
});

test("with one card behind a broken access policy, the next card answers", async () => {
  const service = await tunnelled({ breaker: { max_fails: 1, fail_timeout_s: 30 } });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  await line.park.setFault("gpu-01-0", { kind: "access_denied", strict: true, status: 401 });
  for (let i = 0; i < 4; i++) expect((await line.ask({ service, key })).status).toBe(200);
  expect(line.park.counts().cards["gpu-01-0"]?.starts).toBe(0);
});

test("a tunnel that is down gives tunnel_down, and its cards are used again when it is up", async () => {
  const service = await tunnelled({ breaker: { max_fails: 1, fail_timeout_s: 1 } });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  for (const card of CARDS) await line.park.setFault(card, { kind: "tunnel_down" });
  expect(refusal(await line.ask({ service, key }))).toBe("502 tunnel_down");
  await line.park.heal();
  await eventually("it is served again", async () => (await line.ask({ service, key })).status === 200);
});
