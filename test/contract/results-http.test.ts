/** Results in terms of HTTP (RFC 9110, 9111): freshness, age, authorization, conditions, invalidation. */
import { beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, refusalOf, targetOf } from "./doorway.ts";

const DAY_S = 86_400;
const door = doorway();
let signed: URL;
let open: URL;

async function made(visibility: string): Promise<URL> {
  const answer = expectOk(await door.paint({}, { headers: { "x-result-visibility": visibility } }));
  return new URL(linksOf(answer)[0] ?? "");
}
beforeAll(async () => {
  [signed, open] = await Promise.all([made("signed"), made("public")]);
});

const nobody = (target: string, headers: Record<string, string> = {}, method = "GET") =>
  door.ask(target, { key: null, headers, method });
const isHit = (answer: Answer) => /^portico; hit; ttl=\d+$/.test(answer.header("cache-status") ?? "");

/** Reads until this edge location has a copy, which is written beside the first answer. */
async function copied(target: string): Promise<Answer> {
  for (let i = 0; i < 50; i++) {
    const answer = expectOk(await nobody(target));
    if (isHit(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("no copy came to be");
}

describe("freshness (RFC 9111 4.2)", () => {
  test("lasts for the rest of the result's life, without revalidation (RFC 8246)", async () => {
    const answer = expectOk(await nobody(open.pathname));
    const [, maxAge] = /^public, max-age=(\d+), immutable$/.exec(answer.header("cache-control") ?? "") ?? [];
    expect(Number(maxAge)).toBeGreaterThan(30 * DAY_S - 120);
    for (const name of ["expires", "pragma", "surrogate-control"]) expect(answer.header(name), name).toBe(null);
  });

  test("an edge copy is a hit with an Age, and an answer from R2 is a miss without one", async () => {
    const url = await made("public");
    const first = expectOk(await nobody(url.pathname));
    expect(first.header("cache-status")).toBe("portico; fwd=miss");
    expect(first.header("age")).toBe(null);
    await copied(url.pathname);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const aged = expectOk(await nobody(url.pathname));
    expect(isHit(aged)).toBe(true);
    expect(Number(aged.header("age"))).toBeGreaterThanOrEqual(1);
    expect(Number(aged.header("age"))).toBeLessThan(60);
    expect(aged.body.equals(first.body)).toBe(true);
  });

  test("a hit equals a miss, byte for byte and header by header", async () => {
    const url = await made("public");
    const [miss, hit] = [expectOk(await nobody(url.pathname)), await copied(url.pathname)];
    for (const name of ["content-type", "content-length", "etag", "repr-digest", "last-modified", "accept-ranges"])
      expect(hit.header(name), name).toBe(miss.header(name));
    expect(hit.body.equals(miss.body)).toBe(true);
  });
});

describe("authorization (RFC 9111 3.5)", () => {
  test("an answer to a key or a signature is private", async () => {
    for (const answer of [await door.ask(signed.pathname), await nobody(targetOf(signed.href))]) {
      expectOk(answer);
      expect(answer.header("cache-control")).toMatch(/^private,/);
      expect(answer.header("cache-control")).not.toMatch(/public|s-maxage|must-revalidate/);
    }
  });

  test("a public result is public, with or without a key", async () => {
    for (const answer of [await nobody(open.pathname), await door.ask(open.pathname)])
      expect(expectOk(answer).header("cache-control")).toMatch(/^public,/);
  });

  test("no refusal may be stored", async () => {
    for (const answer of [
      await nobody(signed.pathname),
      await nobody(`${targetOf(signed.href)}x`),
      await door.ask("/v1/results/nothing0"),
      await nobody("/v1/results/pub_nothing0"),
      await nobody(open.pathname, { range: "bytes=99999999-" }),
      await nobody(open.pathname, { "if-match": '"other"' }),
      await nobody(`${open.pathname}?w=64`),
      await nobody(open.pathname, {}, "POST"),
    ]) {
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.header("cache-control"), String(answer.status)).toBe("no-store");
      expect(answer.header("age")).toBe(null);
    }
  });
});

describe("conditions, on a miss and on a hit (RFC 9110 13, 15.4.5)", () => {
  test("304 has the headers that update a stored answer, and no body", async () => {
    const whole = await copied(open.pathname);
    const answer = await nobody(open.pathname, { "if-none-match": whole.header("etag") ?? "" });
    expect(answer.status).toBe(304);
    expect(answer.body).toHaveLength(0);
    for (const name of ["etag", "last-modified"]) expect(answer.header(name), name).toBe(whole.header(name));
    expect(answer.header("cache-control")).toMatch(/^public, max-age=\d+, immutable$/);
    for (const name of ["content-length", "content-range"]) expect(answer.header(name), name).toBe(null);
  });

  test("a failed If-Match or If-Unmodified-Since gets 412, and preconditions go before ranges", async () => {
    const whole = await copied(open.pathname);
    const etag = whole.header("etag") ?? "";
    const before = new Date(Date.parse(whole.header("last-modified") ?? "") - 1_000).toUTCString();
    const statusOf = async (headers: Record<string, string>) => (await nobody(open.pathname, headers)).status;
    expect(await statusOf({ "if-match": '"other"' })).toBe(412);
    expect(await statusOf({ "if-match": `W/${etag}` })).toBe(412);
    expect(await statusOf({ "if-match": `"other", ${etag}` })).toBe(200);
    expect(await statusOf({ "if-unmodified-since": before })).toBe(412);
    expect(await statusOf({ "if-match": etag, "if-unmodified-since": before })).toBe(200);
    expect(await statusOf({ "if-match": '"other"', range: "bytes=0-3" })).toBe(412);
    expect(await statusOf({ "if-none-match": etag, range: "bytes=99999999-" })).toBe(304);
  });

  test("a range of a copy has the right bytes, and its 206 has the headers of the 200 (RFC 9110 15.3.7)", async () => {
    const whole = await copied(open.pathname);
    const part = await nobody(open.pathname, { range: "bytes=-5" });
    expect(part.status).toBe(206);
    expect(part.body.equals(whole.body.subarray(-5))).toBe(true);
    for (const name of ["etag", "last-modified", "content-type", "repr-digest"])
      expect(part.header(name), name).toBe(whole.header(name));
  });
});

test("only the path, the key and the signature of a request select the bytes", async () => {
  const plain = await copied(open.pathname);
  for (const headers of [
    { accept: "image/webp" },
    { accept: "application/problem+json" },
    { "accept-encoding": "gzip, br" },
    { "accept-language": "zh" },
    { "cache-control": "no-cache" },
    { "user-agent": "another" },
    { origin: "https://page.example" },
  ]) {
    const answer = expectOk(await nobody(open.pathname, headers));
    expect(answer.body.equals(plain.body), JSON.stringify(headers)).toBe(true);
    expect(answer.header("content-encoding"), JSON.stringify(headers)).toBe(null);
    expect(answer.header("content-type"), JSON.stringify(headers)).toBe("image/png");
  }
});

describe("invalidation (RFC 9111 4.4)", () => {
  test("DELETE also removes the edge copy; a refused DELETE and other methods do not", async () => {
    const url = await made("public");
    await copied(url.pathname);
    expect((await nobody(url.pathname, {}, "DELETE")).status).toBe(401);
    for (const method of ["POST", "PUT", "PATCH"]) {
      const answer = await nobody(url.pathname, {}, method);
      expect(refusalOf(answer)).toBe("405 method_not_allowed invalid_request_error method_not_allowed");
      expect(answer.header("allow")).toBe("GET, HEAD, DELETE");
    }
    expect(isHit(await nobody(url.pathname))).toBe(true);
    expect((await door.ask(url.pathname, { method: "DELETE" })).status).toBe(204);
    expect((await nobody(url.pathname)).status).toBe(404);
  });
});

describe("?w=, ?h= and ?format=", () => {
  test("are 400 where no image service is bound, for callers that may read the result", async () => {
    for (const [query, param] of [
      ["w=64", "w"],
      ["h=64", "h"],
      ["format=webp", "format"],
    ] as const) {
      const answer = await nobody(`${open.pathname}?${query}`);
      expect(refusalOf(answer)).toBe("400 invalid_request invalid_request_error invalid_field");
      expect(JSON.parse(answer.text)).toMatchObject({ error: { param } });
    }
    expect((await nobody(`${signed.pathname}?w=64`)).status).toBe(401);
  });
});
