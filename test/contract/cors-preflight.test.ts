/** CORS preflights, and OPTIONS requests that are not preflights. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allowed, APP, keyOf, preflight, STRANGER } from "./cors.ts";
import { doorway, expectOk, refusalOf } from "./doorway.ts";
import { answerEcho, listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;
let own: string;

beforeAll(async () => {
  origin = await Origin.open();
  origin.answering = answerEcho;
  const paths = [{ method: "OPTIONS", path: "thing", as: "run" }];
  await listOrigin(door, origin, "optional", { kind: "http", route: "/optional/", paths });
  own = await keyOf(door, [APP]);
});
afterAll(() => origin.close());

/** Returns the headers that a preflight is allowed when it asks for these. */
async function allowedOf(wanted: string): Promise<string> {
  const headers = { "access-control-request-headers": wanted };
  return (await preflight(door, "/sdapi/v1/txt2img", "POST", headers)).header("access-control-allow-headers") ?? "";
}

describe("a preflight", () => {
  const WANTED =
    "authorization,x-api-key,content-type,accept,accept-language,idempotency-key,prefer,x-timeout-s,x-request-id,cache-control,range,if-none-match,if-range,last-event-id,x-stainless-os,x-stainless-retry-count,x-fal-runner-hint,user-agent";

  test("gets the same 204 for every path and method of tenants, whether the path exists or not", async () => {
    const before = door.starts();
    const calls: [target: string, method: string][] = [
      ["/sdapi/v1/txt2img", "POST"],
      ["/sdapi/v1/options", "POST"],
      ["/nobody/knows", "PUT"],
      ["/optional/thing", "OPTIONS"],
      ["/v1/results/none", "DELETE"],
      ["/v1/results/none?exp=1&kid=k&sig=s", "GET"],
      ["/v1/requests/none", "GET"],
      ["/v1/fingerprint", "POST"],
      ["/v1/jobs", "POST"],
      ["/replicate/v1/predictions", "POST"],
      ["/fal/queue/portrait", "POST"],
    ];
    const told = new Set<string>();
    for (const [target, method] of calls) {
      const answer = await preflight(door, target, method, { "access-control-request-headers": WANTED });
      expect(answer.status, target).toBe(204);
      expect(answer.body).toHaveLength(0);
      expect(answer.header("access-control-allow-origin"), target).toBe("*");
      expect(answer.header("access-control-allow-methods")?.split(", "), target).toContain(method);
      expect(answer.header("access-control-allow-headers")?.split(", "), target).toEqual(WANTED.split(","));
      expect(Number(answer.header("access-control-max-age")), target).toBeGreaterThanOrEqual(600);
      expect(answer.header("x-request-id"), target).toMatch(/^req_/);
      const constant = answer.headers.filter(([name]) => !["x-request-id", "date"].includes(name));
      told.add(JSON.stringify(constant));
    }
    expect(told.size).toBe(1);
    expect(door.starts()).toBe(before);
    expect(origin.seen).toEqual([]);
  });

  test("reveals no tenant: the answer is the same for every page, with or without a key", async () => {
    const headers = { "access-control-request-headers": "authorization" };
    const shown = async (page: string, key: string | null) => {
      const sent = { origin: page, "access-control-request-method": "POST", ...headers };
      const answer = await door.ask("/sdapi/v1/txt2img", { method: "OPTIONS", key, headers: sent });
      return JSON.stringify(answer.headers.filter(([name]) => !["x-request-id", "date"].includes(name)));
    };
    const told = [await shown(APP, null), await shown(STRANGER, null), await shown(APP, own), await shown(APP, "x")];
    expect(new Set(told).size).toBe(1);
  });

  test("allows only headers that our callers send, and stops reading an endless list of them", async () => {
    expect(await allowedOf("cookie, Authorization,x-forwarded-for , cf-connecting-ip,X-Portico-Lease,x-admin")).toBe(
      "authorization",
    );
    expect(await allowedOf(`${"x-stainless-os,".repeat(900)}authorization`)).not.toContain("authorization");
    expect((await allowedOf("x-stainless-os,".repeat(900))).length).toBeLessThan(8_000);
    for (const odd of ["*", "", ",,,", "authorization\tx", "x-stainless-", "x-stainless-é"]) {
      expect(await allowedOf(odd)).toBe("");
    }
  });

  test("takes no rate token", async () => {
    const key = await door.key({ limits: { requests_per_minute: 1, burst: 1 } });
    for (let i = 0; i < 5; i++) {
      const headers = { origin: APP, "access-control-request-method": "POST" };
      expect((await door.ask("/sdapi/v1/txt2img", { method: "OPTIONS", key, headers })).status).toBe(204);
    }
    expectOk(await door.paint({}, { key }));
  });
});

describe("any other OPTIONS", () => {
  test("reaches a service that lists it, and needs the tenant's key", async () => {
    for (const headers of [{}, { origin: APP }, { "access-control-request-method": "POST" }]) {
      const answer = expectOk(await door.ask("/optional/thing", { method: "OPTIONS", key: own, headers }));
      expect(origin.taken().method).toBe("OPTIONS");
      expect(allowed(answer)).toBe("origin" in headers ? APP : null);
    }
    expect(refusalOf(await door.ask("/optional/thing", { method: "OPTIONS", key: null }))).toContain("401");
  });

  test("gets 405 where no service lists it", async () => {
    expect((await door.ask("/v1/results/none", { method: "OPTIONS", key: own })).status).toBe(405);
  });
});
