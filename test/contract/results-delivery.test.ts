/** X-Result-TTL and X-Result-Visibility: how long a result lives, and who may read it. */
import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { loadSecrets } from "../../local/secrets.ts";
import type { Answer } from "../support/raw.ts";
import { listOrigin, Origin, valuesOf } from "./origin.ts";
import { doorway, errorOf, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

const door = doorway({
  services: { open: { kind: "image", route: "/open/sdapi/v1/", results: { visibility: "public", keep_days: 1 } } },
});
const MISSING = "401 invalid_api_key authentication_error missing";
const NOT_FOUND = /^404 not_found not_found/;

async function made(headers: Record<string, string>, json: object = {}): Promise<{ answer: Answer; url: URL }> {
  const answer = expectOk(await door.paint(json, { headers }));
  return { answer, url: new URL(linksOf(answer)[0] ?? "") };
}

const nobody = (target: string, method = "GET") => door.ask(target, { key: null, method });
const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The signature that the program would make. */
async function signatureOf({ pathname }: URL): Promise<string> {
  const [kid = "", secret = ""] = (await loadSecrets(door.portico.stateDir)).URL_KEYS.split(":");
  const exp = Math.floor(Date.now() / 1_000) + 60;
  const signed = `result-url\n${pathname.split("/").at(-1)}\n${exp}`;
  return `?exp=${exp}&kid=${kid}&sig=${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

describe("private", () => {
  test("can be read only with a key of its tenant, and its Link is unsigned", async () => {
    const { url } = await made({ "x-result-visibility": "private" });
    expect(url.search).toBe("");
    const answer = expectOk(await door.ask(url.pathname));
    expect(answer.header("cache-control")).toMatch(/^private, max-age=\d+, immutable$/);
    expect(refusalOf(await nobody(url.pathname))).toBe(MISSING);
    expect(refusalOf(await door.ask(url.pathname, { key: await door.key() }))).toMatch(NOT_FOUND);
    expect(refusalOf(await nobody(url.pathname + (await signatureOf(url))))).toMatch(NOT_FOUND);
  });

  test("stays private in the record of its request and in a hit", async () => {
    const json = picture();
    const { answer } = await made({ "x-result-visibility": "private" }, json);
    const { text } = expectOk(await door.ask(`/v1/requests/${answer.header("x-request-id")}`));
    const { results }: { results: { url: string }[] } = JSON.parse(text);
    expect(new URL(results[0]?.url ?? "").search).toBe("");
    const hit = await made({ "x-result-visibility": "public" }, json);
    expect(hit.answer.header("cache-status")).toContain("hit");
    expect(hit.url.href).toBe(results[0]?.url);
  });
});

describe("public", () => {
  test("can be read by anyone who has the id, and shared caches may keep it", async () => {
    const { url } = await made({ "x-result-visibility": "public" });
    expect(url.search).toBe("");
    for (const answer of [
      await nobody(url.pathname),
      await door.ask(url.pathname),
      await door.ask(url.pathname, { key: await door.key() }),
    ]) {
      expectOk(answer);
      expect(answer.header("cache-control")).toMatch(/^public, max-age=\d+, immutable$/);
    }
    expect((await nobody(url.pathname, "HEAD")).status).toBe(200);
    expect((await door.ask(url.pathname, { key: null, headers: { range: "bytes=0-3" } })).status).toBe(206);
  });

  test("refuses an invalid signature or key", async () => {
    const { url } = await made({ "x-result-visibility": "public" });
    expect((await nobody(`${url.pathname}?sig=x`)).status).toBe(403);
    expect((await door.ask(url.pathname, { key: "ptk_live_nobody_0" })).status).toBe(401);
  });

  test("can be deleted only by its tenant, and is then gone for everyone", async () => {
    const { url } = await made({ "x-result-visibility": "public" });
    expectOk(await nobody(url.pathname));
    expect((await nobody(url.pathname, "DELETE")).status).toBe(401);
    expect((await door.ask(url.pathname, { key: await door.key(), method: "DELETE" })).status).toBe(404);
    expect((await door.ask(url.pathname, { method: "DELETE" })).status).toBe(204);
    expect((await nobody(url.pathname)).status).toBe(404);
  });

  test("is 404 for others after it expires, and 410 for its tenant", async () => {
    const { url } = await made({ "x-result-visibility": "public", "x-result-ttl": "1" });
    await later(1_100);
    expect(refusalOf(await nobody(url.pathname))).toMatch(NOT_FOUND);
    expect(refusalOf(await door.ask(url.pathname, { key: await door.key() }))).toMatch(NOT_FOUND);
    expect(refusalOf(await door.ask(url.pathname))).toBe("410 gone not_found expired_result");
  });

  test("an id that only looks public is 404", async () => {
    expect(refusalOf(await nobody("/v1/results/pub_AAAAAAAAAAAAAAAAAAAAAAAA"))).toMatch(NOT_FOUND);
    const { url } = await made({});
    const id = url.pathname.split("/").at(-1) ?? "";
    expect(refusalOf(await nobody(`/v1/results/pub_${id}`))).toMatch(NOT_FOUND);
  });

  test("can be a service's default, which a request can override", async () => {
    const answer = expectOk(await door.ask("/open/sdapi/v1/txt2img", { json: picture() }));
    expectOk(await nobody(new URL(linksOf(answer)[0] ?? "").pathname));
    const own = expectOk(
      await door.ask("/open/sdapi/v1/txt2img", { json: picture(), headers: { "x-result-visibility": "signed" } }),
    );
    expect(refusalOf(await nobody(new URL(linksOf(own)[0] ?? "").pathname))).toBe(MISSING);
  });
});

describe("X-Result-TTL", () => {
  test("expires a result and the stored answer that holds it", async () => {
    const json = picture();
    const { url } = await made({ "x-result-ttl": "2" }, json);
    const maxAge = /max-age=(\d+)/.exec(expectOk(await door.ask(url.pathname)).header("cache-control") ?? "")?.[1];
    expect(Number(maxAge)).toBeLessThanOrEqual(2);
    await later(2_200);
    expect(refusalOf(await door.ask(url.pathname))).toBe("410 gone not_found expired_result");
    expect(refusalOf(await nobody(targetOf(url.href)))).toBe("410 gone not_found expired_result");
    const again = await made({}, json);
    expect(again.answer.header("cache-status")).not.toContain("hit");
    expect(again.url.pathname).not.toBe(url.pathname);
  });
});

test("neither header is part of the cache key", async () => {
  const json = picture();
  const before = door.starts();
  await made({ "x-result-ttl": "600" }, json);
  const hit = await made({ "x-result-ttl": "60", "x-result-visibility": "private" }, json);
  expect(hit.answer.header("cache-status")).toContain("hit");
  expect(door.starts()).toBe(before + 1);
});

test("neither header reaches an origin", async () => {
  const origin = await Origin.open();
  await listOrigin(door, origin, "bare", { kind: "image", route: "/bare/" });
  const headers = { "x-result-ttl": "60", "x-result-visibility": "private" };
  expectOk(await door.ask("/bare/txt2img", { json: { prompt: "no seed" }, headers }));
  const seen = origin.taken();
  for (const name of Object.keys(headers)) expect(valuesOf(seen, name), name).toEqual([]);
  origin.close();
});

test("an invalid value is 400 invalid_field with the name of the header, before a slot is taken", async () => {
  const before = door.starts();
  for (const [name, value] of [
    ["X-Result-TTL", "0"],
    ["X-Result-TTL", "2592001"],
    ["X-Result-TTL", "soon"],
    ["X-Result-Visibility", "everybody"],
  ] as const) {
    const answer = await door.paint({}, { headers: { [name]: value } });
    expect(refusalOf(answer), `${name}: ${value}`).toBe("400 invalid_request invalid_request_error invalid_field");
    expect(errorOf(answer).param).toBe(name);
  }
  // This service keeps results for one day.
  const headers = { "x-result-ttl": "86401" };
  expect((await door.ask("/open/sdapi/v1/txt2img", { json: picture(), headers })).status).toBe(400);
  expect(door.starts()).toBe(before);
});
