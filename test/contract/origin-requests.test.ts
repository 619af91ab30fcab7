/** Which of a caller's headers reach an origin. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, picture } from "./doorway.ts";
import { answerEcho, answerImage, listAny, listOrigin, Origin, valuesOf } from "./origin.ts";

const door = doorway();
let origin: Origin;
const SPOOFED = "203.0.113.66";

beforeAll(async () => {
  origin = await Origin.open();
  await listAny(door, origin);
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/pictures/sdapi/v1/" });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerEcho;
});
afterAll(() => origin.close());

test("an answer without content is accepted, whatever its content type", async () => {
  await listOrigin(door, origin, "plain", { kind: "http", route: "/plain/", retry: { tries: 1 } });
  const status = { HEAD: 200, DELETE: 204, PUT: 205 };
  origin.answering = (res, { method }) =>
    res.writeHead(status[method as keyof typeof status], { "content-type": "application/json" }).end();
  for (let round = 0; round < 4; round++)
    for (const [method, expected] of Object.entries(status))
      expect((await door.ask("/plain/x", { method })).status, method).toBe(expected);
});

/** Headers that must not reach the origin. The credential is the key of the call. */
const UNWANTED: Record<string, string> = {
  cookie: "session=secret",
  "cf-connecting-ip": SPOOFED,
  "cf-ray": "8e2f1a0b3c4d5e6f-FRA",
  "cf-access-client-secret": "spoofed",
  "cf-access-jwt-assertion": "spoofed",
  "cf-ipcountry": "T1",
  "proxy-authorization": "Basic c3Bvb2ZlZA==",
  "proxy-connection": "keep-alive",
  "keep-alive": "timeout=5",
  te: "trailers",
  trailer: "x-spoofed",
  upgrade: "h2c",
  forwarded: `for=${SPOOFED}`,
  "x-forwarded-for": SPOOFED,
  "x-forwarded-host": "spoofed.example.com",
  "x-forwarded-proto": "gopher",
  "x-forwarded-port": "6666",
  "x-forwarded-prefix": "/spoofed",
  "x-real-ip": SPOOFED,
  "true-client-ip": SPOOFED,
  "x-listed-one": "spoofed",
  "x-listed-two": "spoofed",
  connection: "close, X-Listed-One, x-listed-TWO, Content-Language",
  "content-language": "spoofed",
  "x-request-id": "spoofed",
};

function expectClean(headers: readonly (readonly [string, string])[], answer: Answer): void {
  const names = headers.map(([name]) => name.toLowerCase());
  const all = JSON.stringify(headers);
  expect(all).not.toContain(door.ownKey);
  expect(all).not.toContain(door.ownKey.split("_").at(-1));
  for (const gone of [
    "authorization",
    "x-api-key",
    "cookie",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "content-language",
  ]) {
    expect(names).not.toContain(gone);
  }
  for (const gone of [
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "x-listed-one",
    "x-listed-two",
  ]) {
    expect(names).not.toContain(gone);
  }
  for (const name of names.filter((each) => each.startsWith("cf-"))) expect(name).toBe("cf-worker");
  for (const spoofed of [SPOOFED, "spoofed", "gopher", "6666", "c3Bvb2ZlZA"]) expect(all).not.toContain(spoofed);
  expect(valuesOf({ headers }, "x-request-id")).toEqual([answer.header("x-request-id")]);
  expect(valuesOf({ headers }, "x-forwarded-host")).toEqual([new URL(door.portico.url).host]);
  expect(valuesOf({ headers }, "x-forwarded-proto")).toEqual(["http"]);
}

describe("no credential, cookie, CF-*, hop-by-hop or spoofed header reaches an origin:", () => {
  for (const [what, target, json] of [
    ["of a run", "/any/run", {}],
    ["of a read", "/any/read", undefined],
    ["of a cacheable request", "/pictures/sdapi/v1/txt2img", picture()],
  ] as const) {
    test(what, async () => {
      if (target.startsWith("/pictures")) origin.answering = answerImage;
      const sent = json === undefined ? {} : { json };
      const answer = expectOk(await door.ask(target, { ...sent, headers: UNWANTED }));
      expectClean(origin.taken().headers, answer);
    });
  }

  test("of a request to a simulated card, as the card recorded it", async () => {
    const answer = expectOk(await door.paint(picture(), { headers: UNWANTED }));
    const heads = door.park.heads(answer.header("x-portico-card") ?? "");
    const head = heads.find((each) => valuesOf(each, "x-request-id")[0] === answer.header("x-request-id"));
    expectClean(head?.headers ?? [], answer);
  });

  test("however the key is presented", async () => {
    const basic = `Basic ${Buffer.from(`u:${door.ownKey}`).toString("base64")}`;
    for (const headers of [
      { "x-api-key": door.ownKey },
      { authorization: basic },
      { authorization: `Key ${door.ownKey}` },
    ]) {
      const answer = expectOk(
        await door.ask("/any/run", { key: null, json: {}, headers: headers as Record<string, string> }),
      );
      const { headers: arrived } = origin.taken();
      expectClean(arrived, answer);
      expect(JSON.stringify(arrived)).not.toContain(basic);
    }
  });
});

test("a caller's other headers reach the origin of a request that is not cacheable", async () => {
  const own = {
    "x-own": "1",
    "user-agent": "own/1",
    accept: "audio/wav",
    "accept-language": "zh",
    "x-own-list": "a, b",
  };
  expectOk(await door.ask("/any/run", { json: {}, headers: own }));
  const seen = origin.taken();
  for (const [name, value] of Object.entries(own)) expect(valuesOf(seen, name), name).toEqual([value]);
});

test("the origin gets a new X-Request-Id of ours for every request", async () => {
  const ids = new Set<string>();
  for (let i = 0; i < 3; i++) {
    await door.ask("/any/run", { json: {} });
    ids.add(valuesOf(origin.taken(), "x-request-id").join());
  }
  expect(ids.size).toBe(3);
});

const paint = (headers: Record<string, string>, json = picture()) =>
  door.ask("/pictures/sdapi/v1/txt2img", { json, headers });

describe("only allow-listed headers reach the origin for a cacheable request:", () => {
  beforeEach(() => {
    origin.answering = answerImage;
  });

  test("no header that a caller makes up", async () => {
    expectOk(
      await paint({
        "x-own": "own-1",
        "x-model": "own-2",
        "x-original-url": "/own-3",
        "x-http-method-override": "own-4",
      }),
    );
    const seen = origin.taken();
    expect(JSON.stringify(seen.headers)).not.toContain("own-");
  });

  const UNKEYED = {
    accept: "image/own",
    "accept-language": "zh-OWN",
    "accept-encoding": "own",
    "user-agent": "own/1",
    referer: "http://own/",
    origin: "http://own",
    "x-own": "own",
    range: "bytes=0-0",
    "if-none-match": '"own"',
    "content-encoding": "own",
    "content-language": "own",
    "x-http-method-override": "GET",
    expect: "100-continue",
  };
  for (const [name, value] of Object.entries(UNKEYED)) {
    test(`${name} either does not arrive or is part of the cache key`, async () => {
      const json = picture();
      const first = await paint({ [name]: value }, json);
      const seen = origin.seen.splice(0);
      expect(first.status, first.text).toBeLessThan(500);
      const second = await paint({}, json);
      const arrived = seen.some((each) => valuesOf(each, name).includes(value));
      expect(arrived && second.header("cache-status")?.includes("hit") === true, "arrived and is not in the key").toBe(
        false,
      );
    });
  }

  test("a Content-Type with another charset is another request, or the same to the origin", async () => {
    const json = picture({ prompt: "Zoë" });
    const types: string[] = [];
    for (const charset of ["latin1", "utf-8"]) {
      const answer = await paint({ "content-type": `application/json; charset=${charset}` }, json);
      const [seen] = origin.seen.splice(0);
      if (answer.header("cache-status")?.includes("hit") === true) expect(types[0]).toBe("application/json");
      types.push(valuesOf(seen ?? { headers: [] }, "content-type").join());
    }
  });

  test("another JSON type is another request", async () => {
    const json = picture();
    for (const type of ["application/json", "application/own+json"]) {
      const answer = expectOk(await paint({ "content-type": type }, json));
      expect(answer.header("cache-status"), type).toBe("portico; fwd=miss; stored");
    }
  });
});
