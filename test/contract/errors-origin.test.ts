/** Failures of an origin, and what a caller sees of them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";
import { answerBytes, answerImage, type Answering, listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;
let hush: Origin;
let silence: Promise<Answer>;
let services = 0;

beforeAll(async () => {
  origin = await Origin.open();
  hush = await Origin.open();
  hush.answering = () => {};
  await listOrigin(door, hush, "hush", {
    kind: "http",
    route: "/hush/",
    paths: [{ method: "GET", path: "look", as: "read" }],
  });
  // Started early, because it takes long.
  silence = door.ask("/hush/look");
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => {
  origin.close();
  hush.close();
});

/** Creates a service whose card's health no other test shares, and returns a call to it. */
async function calling(service: object = {}, card: object = {}): Promise<() => Promise<Answer>> {
  services += 1;
  const id = `frail-${services}`;
  await listOrigin(
    door,
    origin,
    id,
    { kind: "image", route: `/${id}/sdapi/v1/`, retry: { tries: 1 }, ...service },
    card,
  );
  return () => door.ask(`/${id}/sdapi/v1/txt2img`, { json: picture() });
}

const status =
  (code: number, body: string, headers: Record<string, string> = {}): Answering =>
  (res) => {
    res.writeHead(code, { "content-type": "application/json", ...headers });
    res.end(body);
  };
/** Sends a byte now and then, and never ends. */
const drip =
  (type: string): Answering =>
  (res) => {
    res.writeHead(200, { "content-type": type });
    const timer = setInterval(() => res.write(" "), 100);
    res.on("close", () => clearInterval(timer));
  };
const HTML = { "content-type": "text/html; charset=utf-8" };

describe("502 bad_gateway origin_error:", () => {
  const CASES: [what: string, reason: string, answering: Answering, card?: object][] = [
    ["the connection is reset before an answer", "origin_reset", (res) => void res.socket?.resetAndDestroy()],
    ["the connection closes before an answer", "origin_reset", (res) => void res.socket?.end()],
    [
      "the answer is cut",
      "origin_reset",
      answerBytes("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"),
    ],
    ["status 500", "origin_status", status(500, "{}")],
    ["status 502", "origin_status", status(502, "{}")],
    ["status 503", "origin_status", status(503, "{}")],
    ["status 504", "origin_status", status(504, "{}")],
    ["the edge's word that something odd came", "origin_reset", status(520, "error code: 520", HTML)],
    ["the edge's word that a server is down", "origin_refused", status(521, "error code: 521", HTML)],
    ["the edge's word that there is no way to a server", "origin_refused", status(523, "error code: 523", HTML)],
    ["a redirect", "origin_invalid", status(302, "", { location: "http://127.0.0.1:1/elsewhere" })],
    ["a redirect that keeps the method", "origin_invalid", status(307, "", { location: "/sdapi/v1/sd-models" })],
    ["no image in an image service's answer", "origin_invalid", status(200, '{"images":["bm90IGFuIGltYWdl"]}')],
    ["no JSON where JSON is said to be", "origin_invalid", status(200, "{")],
    ["a tunnel that is down", "tunnel_down", status(530, "error code: 1033", HTML), { transport: "tunnel" }],
    [
      "a redirect to a login page on a tunnel",
      "origin_config",
      status(302, "", { location: "https://x.example.com/login" }),
      { transport: "tunnel" },
    ],
    ["an HTML 403 on a tunnel", "origin_config", status(403, "<html>Forbidden</html>", HTML), { transport: "tunnel" }],
    ["an HTML 401 on a tunnel", "origin_config", status(401, "<html>Who?</html>", HTML), { transport: "tunnel" }],
    [
      "a login page with status 200 on a tunnel",
      "origin_config",
      status(200, "<html>Sign in</html>", HTML),
      { transport: "tunnel" },
    ],
  ];
  for (const [what, reason, answering, card] of CASES) {
    test(`${what} is ${reason}`, async () => {
      const call = await calling({}, card);
      origin.answering = answering;
      const answer = await call();
      expect(refusalOf(answer)).toBe(`502 bad_gateway origin_error ${reason}`);
      expect(errorOf(answer).started).toMatch(/^(yes|no|unknown)$/);
      expect(answer.whole).toBe(true);
      expect(answer.text + JSON.stringify(answer.headers)).not.toContain(new URL(origin.url).host);
      expect(answer.header("location")).toBe(null);
    });
  }

  test("a refused connection is origin_refused and not started", async () => {
    const gone = await Origin.open();
    gone.close();
    const call = await calling({}, { origin: gone.url });
    const answer = await call();
    expect(refusalOf(answer)).toBe("502 bad_gateway origin_error origin_refused");
    expect(errorOf(answer)).toMatchObject({ started: "no", retryable: true });
  });
});

describe("504 gateway_timeout origin_error origin_timeout:", () => {
  test("silence for longer than read_s", async () => {
    const call = await calling({ timeouts: { read_s: 1 } });
    origin.answering = () => {};
    const start = performance.now();
    const answer = await call();
    expect(refusalOf(answer)).toBe("504 gateway_timeout origin_error origin_timeout");
    expect(performance.now() - start).toBeLessThan(4_000);
    expect(errorOf(answer).started).not.toBe("no");
  });

  test("a run longer than run_s, however steadily it sends; its slot drains", async () => {
    const call = await calling({ timeouts: { run_s: 1 }, drain: { max_s: 2 } });
    origin.answering = drip("application/json");
    const answer = await call();
    expect(refusalOf(answer)).toBe("504 gateway_timeout origin_error origin_timeout");
    expect(errorOf(answer)).toMatchObject({
      started: "yes",
      message: "The GPU server did not finish within 1 s, the longest run of this service.",
    });
    const { data } = await door.portico.admin<{ data: { state: string }[] }>("GET", "/leases");
    expect(data.map(({ state }) => state)).toContain("draining");
  });

  test("a stream longer than run_s is cut", async () => {
    const call = await calling({ kind: "http", timeouts: { run_s: 2 }, drain: { max_s: 2 } });
    origin.answering = drip("text/event-stream");
    const start = performance.now();
    const answer = await call();
    expect([answer.status, answer.whole]).toEqual([200, false]);
    expect(performance.now() - start).toBeLessThan(6_000);
  });

  test("an error that an intermediary sends for a silent origin leaves the slot draining", async () => {
    const word = status(524, "error code: 524", HTML);
    const gateways = status(502, "<html>Unable to reach the origin service</html>", HTML);
    for (const [answering, code] of [
      [word, 504],
      [gateways, 502],
    ] as const) {
      const call = await calling({}, { transport: "tunnel" });
      origin.answering = answering;
      expect((await call()).status).toBe(code);
      const leases = await door.portico.admin<{ data: { service: string; state: string }[] }>("GET", "/leases");
      const own = leases.data.filter(({ service }) => service === `frail-${services}`);
      expect(own.map(({ state }) => state)).toEqual(["draining"]);
    }
  });

  test("the caller's deadline passes during a run", async () => {
    await calling();
    origin.answering = () => {};
    const answer = await door.ask(`/frail-${services}/sdapi/v1/txt2img`, {
      json: picture(),
      headers: { "x-timeout-s": "1" },
    });
    expect(refusalOf(answer)).toBe("504 gateway_timeout origin_error origin_timeout");
  });
});

describe("an origin's own 4xx passes through unchanged:", () => {
  for (const code of [400, 401, 403, 404, 409, 413, 415, 418, 422, 429]) {
    test(String(code), async () => {
      const call = await calling();
      const body = `{"detail": [ "${code}" ],\n"own":1e2}`;
      origin.answering = status(code, body, { "x-origins-own": "yes", "retry-after": "7" });
      const answer = await call();
      expect(answer.status).toBe(code);
      expect(answer.text).toBe(body);
      expect(answer.header("content-type")).toBe("application/json");
      expect(answer.header("x-origins-own")).toBe("yes");
      expect(answer.header("retry-after")).toBe("7");
    });
  }

  test("and is never stored", async () => {
    await calling();
    const json = picture();
    const again = () => door.ask(`/frail-${services}/sdapi/v1/txt2img`, { json });
    origin.answering = status(422, "{}");
    expect((await again()).status).toBe(422);
    origin.answering = answerImage;
    expect(expectOk(await again()).header("cache-status")).not.toContain("hit");
  });
});

describe("a failure after the first byte cuts the connection:", () => {
  const ENDS: Record<string, Answering> = {
    "of a chunked stream that is reset": (res) => {
      res.writeHead(200, { "content-type": "audio/wav" });
      res.write("RIFF");
      setTimeout(() => res.socket?.resetAndDestroy(), 200);
    },
    "of a chunked stream that ends without its last chunk": answerBytes(
      "HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nRIFF\r\n",
    ),
    "of a stream that falls silent": (res) => {
      res.writeHead(200, { "content-type": "audio/wav" });
      res.write("RIFF");
    },
  };
  for (const [what, answering] of Object.entries(ENDS)) {
    test(what, async () => {
      const id = `sound-${what.length}`;
      const service = { kind: "tts", route: `/${id}/`, timeouts: { read_s: 1 }, retry: { tries: 1 } };
      await listOrigin(door, origin, id, service);
      origin.answering = answering;
      const answer = await door.ask(`/${id}/audio-generate`, { json: { text: "cut", stream: true } });
      expect(answer.status).toBe(200);
      expect(answer.text).toBe("RIFF");
      expect(answer.whole).toBe(false);
      const again = await door.ask(`/${id}/audio-generate`, {
        json: { text: "cut", stream: true },
        headers: { "cache-control": "only-if-cached" },
      });
      expect(again.status).toBe(504);
    });
  }
});

test("a read path has a short timeout, not read_s", { timeout: 40_000 }, async () => {
  const answer = await silence;
  expect(refusalOf(answer)).toBe("504 gateway_timeout origin_error origin_timeout");
  expect(Number(/origin;dur=(\d+)/.exec(answer.header("server-timing") ?? "")?.[1])).toBeLessThan(30_000);
});
