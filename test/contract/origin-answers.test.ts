/** An origin's answer is untrusted until it is checked, and only some of its headers reach the caller. */
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, expect, describe, test } from "vitest";
import { doorway, expectOk } from "./doorway.ts";
import { answerBytes, type Answering, listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "any", { kind: "http", route: "/any/" });
  await listOrigin(door, origin, "kept", { kind: "http", route: "/kept/", cache: { enabled: true } });
});
beforeEach(() => {
  origin.seen.length = 0;
});
afterAll(() => origin.close());

const answering =
  (headers: Record<string, string | string[]>): Answering =>
  (res) => {
    res.writeHead(200, { "content-type": "application/json", ...headers });
    res.end("{}");
  };

describe("an origin's answer:", () => {
  test("it cannot replace headers that Portico sets", async () => {
    const spoofed = {
      "x-request-id": "spoofed",
      "x-portico-card": "spoofed",
      "cache-status": "spoofed; hit",
      "server-timing": "spoofed;dur=1",
      ratelimit: '"spoofed";r=1',
      "ratelimit-policy": '"spoofed";q=1',
      "cache-control": "public, max-age=99",
      link: "<http://spoofed/>",
      "x-client-request-id": "spoofed",
      age: "7",
      etag: '"spoofed"',
    };
    origin.answering = answering(spoofed);
    const answer = expectOk(await door.ask("/any/run", { json: {} }));
    expect(JSON.stringify(answer.headers)).not.toContain("spoofed");
    expect(answer.header("cache-control")).toBe("no-store");
    expect(answer.header("x-portico-card")).toBe("any-card");
  });

  test("it cannot set our headers or control caches between us and the caller", async () => {
    const names = [
      ["cdn-cache-control", "cloudflare-cdn-cache-control", "vercel-cdn-cache-control", "surrogate-control"],
      ["surrogate-key", "cache-tag", "x-accel-expires", "x-accel-redirect", "x-accel-buffering"],
      ["idempotent-replayed", "preference-applied", "x-should-retry", "x-fal-request-id", "x-fal-error-type"],
      ["service-worker-allowed", "set-cookie2", "allow", "content-range"],
    ].flat();
    origin.answering = answering({
      ...Object.fromEntries(names.map((name) => [name, "spoofed"])),
      "x-own": "kept",
      "repr-digest": "sha-256=:AAAA:",
    });
    const run = () => door.ask("/kept/run", { json: { names } });
    for (const [answer, status] of [
      [expectOk(await run()), "portico; fwd=miss; stored"],
      [expectOk(await run()), expect.stringMatching(/hit/)],
      [expectOk(await door.ask("/kept/read")), "portico; fwd=bypass"],
    ] as const) {
      expect(answer.header("cache-status")).toEqual(status);
      expect(names.filter((name) => answer.header(name) !== null)).toEqual([]);
      expect([answer.header("x-own"), answer.header("repr-digest")]).toEqual(["kept", "sha-256=:AAAA:"]);
    }
  });

  test("Allow passes with a 405 and on OPTIONS, and Content-Range with a 206", async () => {
    for (const [method, status, expected] of [
      ["POST", 405, ["GET", null]],
      ["OPTIONS", 200, ["GET", null]],
      ["GET", 206, [null, "bytes 0-0/9"]],
      ["GET", 404, [null, null]],
    ] as const) {
      origin.answering = (res) => res.writeHead(status, { allow: "GET", "content-range": "bytes 0-0/9" }).end("x");
      const answer = await door.ask("/any/other", { method });
      expect(answer.status).toBe(status);
      expect([answer.header("allow"), answer.header("content-range")], String(status)).toEqual(expected);
    }
  });

  test("a digest of encoded bytes is removed when they are decoded", async () => {
    origin.answering = (res) => {
      const digests = ["repr-digest", "content-digest", "digest", "content-md5"].map((name) => [
        name,
        "sha-256=:AAAA:",
      ]);
      const coding = { "content-type": "text/plain", "content-encoding": "gzip" };
      res.writeHead(200, { ...coding, ...Object.fromEntries(digests) }).end(gzipSync("plain"));
    };
    const answer = expectOk(await door.ask("/any/encoded", { json: {} }));
    expect(answer.text).toBe("plain");
    expect(JSON.stringify(answer.headers)).not.toContain("AAAA");
  });

  test("cookies, software names and hop-by-hop headers are removed", async () => {
    origin.answering = answering({
      "set-cookie": ["a=1", "b=2"],
      server: "own/1",
      "x-powered-by": "own",
      via: "1.1 own",
      "keep-alive": "timeout=99",
      "proxy-authenticate": "Basic",
      connection: "close, x-private",
      "x-private": "own",
      "x-public": "yes",
    });
    const answer = expectOk(await door.ask("/any/run", { json: {} }));
    for (const name of [
      "set-cookie",
      "server",
      "x-powered-by",
      "via",
      "keep-alive",
      "proxy-authenticate",
      "x-private",
    ]) {
      expect(answer.header(name), name).toBe(null);
    }
    expect(answer.header("x-public")).toBe("yes");
  });

  const HOSTILE: Record<string, Answering> = {
    "70 KB of headers": answerBytes(`HTTP/1.1 200 OK\r\nX-Huge: ${"a".repeat(70_000)}\r\nContent-Length: 2\r\n\r\n{}`),
    "a NUL in a header": answerBytes("HTTP/1.1 200 OK\r\nX-Own: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "a bare CR in a header": answerBytes("HTTP/1.1 200 OK\r\nX-Own: a\rSet-Cookie: b=1\r\nContent-Length: 2\r\n\r\n{}"),
    "a folded header": answerBytes("HTTP/1.1 200 OK\r\nX-Own: a\r\n Set-Cookie: b=1\r\nContent-Length: 2\r\n\r\n{}"),
    "two lengths": answerBytes(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}HTTP/1.1 200 OK\r\nX-Split: yes\r\n\r\n",
    ),
    "a length and chunks": answerBytes(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    "a second answer behind the first": answerBytes(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nX-Split: yes\r\nContent-Length: 5\r\n\r\nsplit",
    ),
    "a chunk size that is none": answerBytes(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ),
    "no HTTP at all": answerBytes("SSH-2.0-own\r\n"),
    "a status that is none": answerBytes("HTTP/1.1 999999 Own\r\nContent-Length: 0\r\n\r\n"),
    "status 101": answerBytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: own\r\nConnection: upgrade\r\n\r\n"),
  };
  for (const [what, hostile] of Object.entries(HOSTILE)) {
    test(`${what} gives 502 or a stripped answer, never a split one`, async () => {
      const id = `hostile-${Object.keys(HOSTILE).indexOf(what)}`;
      await listOrigin(door, origin, id, { kind: "http", route: `/${id}/`, retry: { tries: 1 } });
      origin.answering = hostile;
      const answer = await door.ask(`/${id}/x`, { json: {} });
      expect([200, 502], answer.text.slice(0, 200)).toContain(answer.status);
      expect(answer.header("set-cookie")).toBe(null);
      expect(answer.header("x-split")).toBe(null);
      expect(answer.text).not.toContain("split");
      expect(JSON.stringify(answer.headers).length).toBeLessThan(10_000);
      if (answer.status === 200 && answer.whole) expect(answer.text).toBe("{}");
    });
  }
});
