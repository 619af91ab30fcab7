/** The origin's own API passes through both ways: paths, queries, bodies and answers, whole and streamed. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bytesOf, RawCall } from "../support/raw.ts";
import { doorway, expectOk } from "./doorway.ts";
import { answerEcho, listOrigin, Origin, type Seen, valuesOf } from "./origin.ts";

const door = doorway();
let origin: Origin;
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "any", { kind: "http", route: "/any/" });
  await listOrigin(door, origin, "deep", { kind: "http", route: "/any/deep/" });
  await listOrigin(door, origin, "based", { kind: "http", route: "/based/" }, { origin: `${origin.url}/own/path` });
  const paths = [
    { method: "POST", path: "go/*", as: "run" },
    { method: "GET", path: "look", as: "read" },
  ];
  await listOrigin(door, origin, "listed", { kind: "http", route: "/listed/", paths });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerEcho;
});
afterAll(() => origin.close());

async function send(target: string, sent: object = {}): Promise<Seen> {
  expectOk(await door.ask(target, sent));
  return origin.taken();
}

describe("a path reaches the card", () => {
  test("whole, including the route", async () => {
    expect((await send("/any/a/b.c")).target).toBe("/any/a/b.c");
  });

  test("after the origin's own path, if it has one", async () => {
    expect((await send("/based/x")).target).toBe("/own/path/based/x");
  });

  test("by the longest route that matches it", async () => {
    const answer = await door.ask("/any/deep/x");
    expect(expectOk(answer).header("x-portico-card")).toBe("deep-card");
    expect((await door.ask("/any/deeper/x")).header("x-portico-card")).toBe("any-card");
  });

  test("as listed: a trailing * matches the rest, and any other path gets 404", async () => {
    expect((await send("/listed/go/a/b", { json: {} })).target).toBe("/listed/go/a/b");
    expect((await send("/listed/look")).target).toBe("/listed/look");
    for (const target of ["/listed/gone", "/listed/looks", "/listed/"]) {
      expect((await door.ask(target, { json: {} })).status, target).toBe(404);
    }
    expect(origin.seen).toHaveLength(0);
  });
});

describe("a query reaches the card unchanged:", () => {
  const QUERIES = [
    "?a=1&a=2",
    "?",
    "?a",
    "?%41=%2f%2F&b=+",
    "?a=%zz",
    "?a=b?c=d",
    "?a;b",
    "?a[]=1&a[]=2",
    "?q=%E4%BD%A0",
    "?a==&&b",
  ];
  for (const query of QUERIES) {
    test(query, async () => {
      const { target } = await send(`/any/x${query}`);
      // An empty query may be dropped.
      expect([`/any/x${query}`, ...(query === "?" ? ["/any/x"] : [])]).toContain(target);
    });
  }
});

describe("a method and a body reach the card:", () => {
  for (const method of METHODS) {
    test(method, async () => {
      const body = method === "GET" ? Buffer.alloc(0) : randomBytes(50_000);
      const headers = { "content-type": "application/octet-stream" };
      const seen = await send("/any/x", { method, ...(method === "GET" ? {} : { body, headers }) });
      expect(seen.method).toBe(method);
      expect(seen.body.equals(body)).toBe(true);
    });
  }

  test("an empty POST, even with a JSON content type", async () => {
    expect((await send("/any/x", { method: "POST" })).body).toHaveLength(0);
    const headers = { "content-type": "application/json" };
    expect((await send("/any/x", { method: "POST", headers })).body).toHaveLength(0);
  });

  test("a form, byte for byte", async () => {
    const body = '--x\r\nContent-Disposition: form-data; name="a"; filename="ü.bin"\r\n\r\n\u0000\u0001\r\n--x--\r\n';
    const headers = { "content-type": 'multipart/form-data; boundary="x"' };
    const seen = await send("/any/x", { body, headers });
    expect(seen.body.toString()).toBe(body);
    expect(valuesOf(seen, "content-type")).toEqual(['multipart/form-data; boundary="x"']);
  });

  test("20 MB, byte for byte", async () => {
    const body = randomBytes(20_000_000);
    const headers = { "content-type": "application/octet-stream" };
    origin.answering = (res, seen) => res.end(`${seen.body.equals(body)}`);
    expect(expectOk(await door.ask("/any/x", { body, headers })).text).toBe("true");
  });

  test("a chunked body, without its framing", async () => {
    const headers = { "transfer-encoding": "chunked", "content-type": "text/plain" };
    const seen = await send("/any/x", {
      method: "POST",
      body: "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
      headers,
    });
    expect(seen.body.toString()).toBe("hello world");
  });
});

describe("an answer reaches the caller:", () => {
  test("its status, its body byte for byte, its type and its own headers", async () => {
    const body = randomBytes(100_000);
    origin.answering = (res) => {
      res.writeHead(201, "Made", {
        "content-type": "application/x-own; v=1",
        "x-own": "a, b",
        "content-disposition": 'attachment; filename="x"',
        "content-language": "fr",
      });
      res.end(body);
    };
    const answer = await door.ask("/any/x");
    expect(answer.status).toBe(201);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.header("content-type")).toBe("application/x-own; v=1");
    expect(answer.header("x-own")).toBe("a, b");
    expect(answer.header("content-disposition")).toBe('attachment; filename="x"');
    expect(answer.header("content-language")).toBe("fr");
  });

  test("with an empty body", async () => {
    origin.answering = (res) => res.writeHead(204).end();
    const answer = await door.ask("/any/x", { method: "DELETE" });
    expect(answer.status).toBe(204);
    expect(answer.body).toHaveLength(0);
  });

  test("20 MB, byte for byte", async () => {
    const body = randomBytes(20_000_000);
    origin.answering = (res) => res.end(body);
    expect(expectOk(await door.ask("/any/x")).body.equals(body)).toBe(true);
  });

  test("an HTML page from a card that is reached directly", async () => {
    origin.answering = (res) => res.writeHead(200, { "content-type": "text/html" }).end("<p>own</p>");
    expect((await door.ask("/any/x")).text).toBe("<p>own</p>");
  });

  test("as a stream, piece by piece", async () => {
    origin.answering = (res) => {
      res.writeHead(200, { "content-type": "text/event-stream" });
      res.write("data: 1\n\n");
      setTimeout(() => res.end("data: 2\n\n"), 600);
    };
    const { arrivals, text } = expectOk(await door.ask("/any/x"));
    expect(text).toBe("data: 1\n\ndata: 2\n\n");
    expect((arrivals.at(-1)?.ms ?? 0) - (arrivals[0]?.ms ?? 0)).toBeGreaterThan(300);
  });

  test("speech of a card, as a stream", async () => {
    door.park.setService({ speed: 1, speech_s: 1 });
    const answer = expectOk(await door.speak({ text: "streamed", stream: true }));
    door.park.setService({ speed: 0.1, speech_s: null });
    const { arrivals } = answer;
    expect(answer.header("content-type")).toMatch(/^audio\//);
    expect((arrivals.at(-1)?.ms ?? 0) - (arrivals[0]?.ms ?? 0)).toBeGreaterThan(300);
  });
});

test("a long request body is streamed to the card before all of it has arrived", async () => {
  const call = await RawCall.open(door.portico.url);
  const headers = {
    authorization: `Bearer ${door.ownKey}`,
    "content-type": "application/octet-stream",
    "content-length": "12000000",
  };
  origin.answering = (res, seen) => res.end(String(seen.body.length));
  origin.received = 0;
  call.send(bytesOf(call.host, { method: "POST", target: "/any/x", headers }));
  call.send(Buffer.alloc(11_000_000, "x"));
  for (let ms = 0; origin.received === 0; ms += 20) {
    expect(ms, "nothing has come").toBeLessThan(10_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  call.send(Buffer.alloc(1_000_000, "x"));
  expect((await call.answer()).text).toBe("12000000");
});

test("a read path takes no slot: it is answered while all slots of the card are taken", async () => {
  await listOrigin(
    door,
    origin,
    "one",
    {
      kind: "http",
      route: "/one/",
      paths: [
        { method: "POST", path: "work", as: "run" },
        { method: "GET", path: "look", as: "read" },
      ],
    },
    { slots: 1 },
  );
  const held = new Promise<() => void>((resolve) => {
    origin.answering = (res, seen) => resolve(() => answerEcho(res, seen));
  });
  const work = door.ask("/one/work", { json: {} });
  const release = await held;
  origin.answering = answerEcho;
  const look = expectOk(await door.ask("/one/look"));
  expect(look.header("server-timing")).not.toContain("queue");
  release();
  expectOk(await work);
});
