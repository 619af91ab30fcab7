/** Attacks on other tenants: on every call, another tenant's object looks like one that never existed. */
import { beforeAll, describe, expect, test } from "vitest";
import { doorway, expectOk, linksOf, picture, refusalOf } from "../contract/doorway.ts";
import type { Answer } from "../support/raw.ts";
import { filled, type Operation, operationsOf, sentOf, SERVICE_PATH } from "./operations.ts";

const door = doorway();
/** Timed calls of each kind, interleaved. */
const TIMED = 24;
const TIMED_AT_ONCE = 6;
/** Medians of equal durations differ by less than this, even on a busy machine. */
const APART_MS_MAX = 30;

/** The victim's ids, by kind. */
let ids: Record<string, string>;
let thief: string;
let victim: string;
let victimsTenant: string;
let calls: Operation[];
let path: string;

beforeAll(async () => {
  victimsTenant = await door.tenant();
  victim = await door.key({ tenant: victimsTenant });
  thief = await door.key();
  const painted = expectOk(await door.paint({}, { key: victim, headers: { "x-request-id": "victims-own-id" } }));
  const [url = ""] = linksOf(painted);
  path = new URL(url).pathname;
  const [, , key = ""] = victim.split("_");
  ids = {
    result: path.split("/").at(-1) ?? "",
    request: painted.header("x-request-id") ?? "",
    "the caller's own": "victims-own-id",
    key,
  };
  calls = (await operationsOf(door)).filter((one) => one.of === "tenant" && one.path !== SERVICE_PATH);
});

/** Returns an id of the same form that never existed. */
function never(id: string): string {
  return id.slice(0, -6) + id.slice(-6).replace(/[0-9A-Za-z]/g, (letter) => (letter === "0" ? "1" : "0"));
}

/** Returns an answer without what differs between any two: ids, times, and what is left of the limit. */
function told(answer: Answer, id: string): string {
  const own = /^(x-request-id|x-fal-request-id|date|server-timing|ratelimit|retry-after)$/;
  const headers = answer.headers.filter(([name]) => !own.test(name));
  const times = /"\d{4}-\d\d-\d\dT[^"]+"/g;
  const text = answer.text.replaceAll(answer.header("x-request-id") ?? "-", "OURS").replaceAll(times, "TIME");
  return JSON.stringify([answer.status, headers, text]).replaceAll(id, "ID");
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length / 2] ?? 0;

/** Calls with an id in their path. */
const naming = () => calls.filter(({ names }) => names.length > 0);

describe("with another tenant's key", () => {
  test("every call answers another tenant's id exactly as it answers an id that never existed", async () => {
    expect(naming().length).toBeGreaterThanOrEqual(4);
    for (const call of naming()) {
      for (const [what, id] of Object.entries(ids)) {
        const at = `${call.method} ${call.path} of the ${what}`;
        const sent = { key: thief, ...sentOf(call) };
        const real = await door.ask(filled(call.path, id), sent);
        const unreal = await door.ask(filled(call.path, never(id)), sent);
        expect(real.status, at).toBe(404);
        expect(told(real, id), at).toBe(told(unreal, never(id)));
      }
    }
  });

  test("no query parameter or header opens another tenant's object", async () => {
    const tenant = victimsTenant;
    for (const call of naming()) {
      const headers = {
        "x-tenant": tenant,
        "x-portico-tenant": tenant,
        "x-forwarded-user": tenant,
        cookie: `t=${tenant}`,
      };
      for (const id of Object.values(ids)) {
        const target = `${filled(call.path, id)}?tenant=${tenant}&key=${ids["key"]}`;
        expect((await door.ask(target, { key: thief, ...sentOf(call), headers })).status, call.path).toBe(404);
      }
    }
  });

  test("the victim still has everything afterwards", async () => {
    expectOk(await door.ask(path, { key: victim }));
    for (const id of [ids["request"], ids["the caller's own"]]) {
      expect(JSON.parse(expectOk(await door.ask(`/v1/requests/${id}`, { key: victim })).text)).toMatchObject({
        id: ids["request"],
        state: "succeeded",
      });
    }
  });

  test("a stored answer of another tenant is not a hit, and the same input has another fingerprint", async () => {
    const json = picture();
    expectOk(await door.paint(json, { key: victim }));
    expect((await door.paint(json, { key: victim })).header("cache-status")).toContain("hit");
    const only = await door.paint(json, { key: thief, headers: { "cache-control": "only-if-cached" } });
    expect(refusalOf(only)).toBe("504 gateway_timeout origin_error not_cached");
    const print = async (key: string) =>
      JSON.parse(
        (await door.ask("/v1/fingerprint", { key, json: { service: "portrait", path: "txt2img", input: json } })).text,
      );
    expect((await print(thief)).key).not.toBe((await print(victim)).key);
  });

  test("X-Request-Id finds the caller's own request, not another tenant's with the same id", async () => {
    const headers = { "x-request-id": "victims-own-id" };
    const own = expectOk(await door.paint({}, { key: thief, headers }));
    const found = (key: string) => door.ask("/v1/requests/victims-own-id", { key });
    expect(JSON.parse((await found(thief)).text)).toMatchObject({ id: own.header("x-request-id") });
    expect(JSON.parse((await found(victim)).text)).toMatchObject({ id: ids["request"] });
  });

  test("another tenant's result takes as long to refuse as one that does not exist", { timeout: 60_000 }, async () => {
    const id = ids["result"] ?? "";
    const times: Record<"real" | "unreal", number[]> = { real: [], unreal: [] };
    const time = async (kind: "real" | "unreal") => {
      const start = performance.now();
      const answer = await door.ask(`/v1/results/${kind === "real" ? id : never(id)}`, { key: thief });
      expect(answer.status).toBe(404);
      times[kind].push(performance.now() - start);
    };
    for (let i = 0; i < TIMED; i += TIMED_AT_ONCE) {
      const kinds = Array.from({ length: 2 * TIMED_AT_ONCE }, (_, j) =>
        (i / TIMED_AT_ONCE + j) % 2 ? "real" : "unreal",
      );
      await Promise.all(kinds.map(time));
    }
    expect(Math.abs(median(times.real) - median(times.unreal))).toBeLessThan(APART_MS_MAX);
  });
});

describe("a key with only the results scope", () => {
  test("reads its tenant's results, and is refused by every other call", async () => {
    const tenant = await door.tenant();
    const full = await door.key({ tenant });
    const key = await door.key({ tenant, scopes: ["results"] });
    const painted = expectOk(await door.paint({}, { key: full }));
    const own = new URL(linksOf(painted)[0] ?? "").pathname;
    const request = painted.header("x-request-id") ?? "";
    const opened: string[] = [];
    // /fal/proxy answers as the call that it forwards to, and nothing here tells which call that is.
    for (const call of calls.filter((one) => one.path !== "/fal/proxy")) {
      for (const id of [own.split("/").at(-1) ?? "", request, "nothing"]) {
        const answer = await door.ask(filled(call.path, id), { key, ...sentOf(call) });
        const at = `${call.method} ${call.path}`;
        if (answer.status === 200) opened.push(at);
        else expect([403, 404], at).toContain(answer.status);
        if (!/^(GET|HEAD) \/v1\/results\//.test(at)) expect(answer.status, at).toBe(403);
      }
    }
    expect(opened.toSorted()).toEqual(["GET /v1/results/{id}", "HEAD /v1/results/{id}"]);
    expect(door.starts()).toBeGreaterThan(0);
  });

  test("opens no service, by any path or method", async () => {
    const key = await door.key({ scopes: ["results"] });
    const before = door.starts();
    for (const target of [
      "/sdapi/v1/txt2img",
      "/sdapi/v1/sd-models",
      "/sdapi/v1/options",
      "/AIVoice/TTS/CosyVoice2/x",
    ]) {
      for (const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]) {
        const answer = await door.ask(target, { key, method });
        expect(answer.status, `${method} ${target}`).toBe(403);
      }
    }
    expect((await door.ask("/admin/v1/keys", { key })).status).toBe(401);
    expect(door.starts()).toBe(before);
  });
});
