/** Odd, hostile or too large bodies are refused or passed through unchanged, and never cause a 500. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bytesOf, RawCall } from "../support/raw.ts";
import { doorway, errorOf, refusalOf } from "./doorway.ts";
import { answerEcho, answerImage, listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;
const MB = 1_000_000;
const JSON_TYPE = { "content-type": "application/json" };
const TOO_LARGE = /^413 body_too_large invalid_request_error/;
const IMAGE = "/odd/sdapi/v1/txt2img";
const HTTP = "/small/anything";

beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "odd", { kind: "image", route: "/odd/sdapi/v1/", max_body_mb: 1 });
  await listOrigin(door, origin, "small", { kind: "http", route: "/small/", max_body_mb: 1 });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

const deep = (count: number) => `{"seed":1,"prompt":${"[".repeat(count)}${"]".repeat(count)}}`;
const ODD: Record<string, string | Buffer> = {
  "nested 10,000 deep": deep(10_000),
  "nested 100,000 deep": deep(100_000),
  "a key twice": '{"seed":1,"seed":2,"prompt":"a","prompt":"b"}',
  "a bounded key twice": '{"seed":1,"width":64,"width":32}',
  // Computed: a plain member would set the object's prototype.
  ["__proto__"]: '{"seed":1,"__proto__":{"width":8192,"prompt":"x"}}',
  "constructor and prototype": '{"seed":1,"constructor":{"prototype":{"width":8192}},"toString":1,"hasOwnProperty":1}',
  "a lone high surrogate": '{"seed":1,"prompt":"\\ud800"}',
  "a lone low surrogate as a key": '{"seed":1,"\\udc00":"x"}',
  NaN: '{"seed":1,"cfg_scale":NaN}',
  Infinity: '{"seed":1,"cfg_scale":-Infinity}',
  "1e400": '{"seed":1,"cfg_scale":1e400}',
  "1e400 as the seed": '{"seed":1e400}',
  "ten thousand digits": `{"seed":1,"cfg_scale":${"9".repeat(10_000)}}`,
  "minus nought": '{"seed":-0}',
  "a byte order mark": '\ufeff{"seed":1}',
  "bytes that are no UTF-8": Buffer.concat([
    Buffer.from('{"seed":1,"prompt":"'),
    Buffer.from([0xff, 0xfe, 0xc0, 0x80]),
    Buffer.from('"}'),
  ]),
  "an overlong UTF-8 sequence": Buffer.concat([
    Buffer.from('{"seed":1,"prompt":"'),
    Buffer.from([0xc0, 0xaf]),
    Buffer.from('"}'),
  ]),
  "UTF-16": Buffer.from('{"seed":1}', "utf16le"),
  "a NUL byte": '{"seed":1,"prompt":"\u0000"}',
  "an escaped NUL": '{"seed":1,"prompt":"\\u0000"}',
  "a comma too many": '{"seed":1,}',
  "single quotes": "{'seed':1}",
  "two documents": '{"seed":1}{"seed":2}',
  "cut off": '{"seed":1,"prompt":"',
  "nothing at all": "",
  blanks: " \r\n\t ",
  null: "null",
  "a list": '[{"seed":1}]',
  "a string": '"seed"',
  "a number": "1",
  "a comment": '{"seed":1}//',
  "100,000 keys": `{"seed":1,${Array.from({ length: 60_000 }, (_, i) => `"k${i}":0`).join(",")}}`,
  "an empty key": '{"seed":1,"":{"":""}}',
};

describe("an image service refuses with 400, or passes on unchanged:", () => {
  for (const [what, body] of Object.entries(ODD)) {
    test(what, async () => {
      const answer = await door.ask(IMAGE, { body, headers: JSON_TYPE });
      expect([200, 400], answer.text.slice(0, 300)).toContain(answer.status);
      if (answer.status === 400) {
        expect(errorOf(answer).reason).toMatch(/^(malformed_json|invalid_field)$/);
        expect(origin.seen).toHaveLength(0);
      } else {
        expect(origin.taken().body.equals(Buffer.from(body as string))).toBe(true);
      }
    });
  }
});

describe("a service of kind http passes on unchanged:", () => {
  for (const [what, body] of Object.entries(ODD)) {
    test(what, async () => {
      origin.answering = answerEcho;
      const answer = await door.ask(HTTP, { body, headers: JSON_TYPE });
      expect(answer.status, answer.text.slice(0, 300)).toBe(200);
      expect(origin.taken().body.equals(Buffer.from(body as string))).toBe(true);
    });
  }
});

describe("the fingerprint of odd input is returned or refused with 400:", () => {
  for (const [what, body] of Object.entries(ODD)) {
    test(what, async () => {
      const parts = [
        Buffer.from('{"service":"odd","path":"txt2img","input":'),
        Buffer.from(body as string),
        Buffer.from("}"),
      ];
      const answer = await door.ask("/v1/fingerprint", { body: Buffer.concat(parts), headers: JSON_TYPE });
      expect([200, 400], answer.text.slice(0, 300)).toContain(answer.status);
    });
  }
});

describe("a body over max_body_mb gets 413 before a slot is taken:", () => {
  const large = Buffer.alloc(1.2 * MB, " ");

  for (const target of [IMAGE, HTTP]) {
    test(`${target}, by its Content-Length, without reading the body`, async () => {
      const call = await RawCall.open(door.portico.url);
      const headers = { authorization: `Bearer ${door.ownKey}`, ...JSON_TYPE, "content-length": String(100 * MB) };
      call.send(bytesOf(call.host, { method: "POST", target, headers }));
      expect((await call.head()).status).toBe(413);
      call.reset();
      expect(origin.seen).toHaveLength(0);
    });

    test(`${target}, sent whole`, async () => {
      expect(refusalOf(await door.ask(target, { body: large, headers: JSON_TYPE }))).toMatch(TOO_LARGE);
      expect(origin.seen).toHaveLength(0);
    });

    test(`${target}, but 401 without a key`, async () => {
      const answer = await door.ask(target, { body: large, headers: JSON_TYPE, key: null });
      expect(answer.status).toBe(401);
    });
  }

  test("without a length, for a service that reads the body first", async () => {
    const piece = Buffer.concat([Buffer.from(`${large.length.toString(16)}\r\n`), large, Buffer.from("\r\n0\r\n\r\n")]);
    const headers = { ...JSON_TYPE, "transfer-encoding": "chunked" };
    expect(refusalOf(await door.ask(IMAGE, { method: "POST", body: piece, headers }))).toMatch(TOO_LARGE);
    expect(origin.seen).toHaveLength(0);
  });

  test("but a body below the limit is accepted, with and without a length", async () => {
    const body = Buffer.from(JSON.stringify({ seed: 1, prompt: "x".repeat(0.9 * MB) }));
    expect((await door.ask(IMAGE, { body, headers: JSON_TYPE })).status).toBe(200);
    expect(origin.taken().body.equals(body)).toBe(true);
    const chunked = Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n0\r\n\r\n")]);
    const headers = { ...JSON_TYPE, "transfer-encoding": "chunked", "cache-control": "no-cache" };
    expect((await door.ask(IMAGE, { method: "POST", body: chunked, headers })).status).toBe(200);
    expect(origin.taken().body.equals(body)).toBe(true);
  });
});

describe("an invalid Content-Length gets 400 and does not reach the origin:", () => {
  for (const length of ["-1", "+5", "0x5", "5, 6", "1e3", ""]) {
    test(JSON.stringify(length), async () => {
      const answer = await door.ask(HTTP, { method: "POST", body: "hello", headers: { "content-length": length } });
      expect(answer.status).toBe(400);
      expect(origin.seen).toHaveLength(0);
    });
  }
});

describe("a request that cannot be sent to any origin gets 400:", () => {
  for (const method of ["GET", "HEAD"]) {
    test(`a body on ${method}`, async () => {
      expect((await door.ask(HTTP, { method, body: "hello" })).status).toBe(400);
      expect(origin.seen).toHaveLength(0);
    });
  }

  for (const [what, target, headers] of [
    ["headers", HTTP, { "x-own": "a".repeat(20_000) }],
    ["a query", `${HTTP}?${"a".repeat(20_000)}`, {}],
  ] as const) {
    test(`${what} of 20 KB`, async () => {
      expect(refusalOf(await door.ask(target, { body: "{}", headers: { ...JSON_TYPE, ...headers } }))).toMatch(
        /^400 invalid_request .* invalid_field$/,
      );
      expect(origin.seen).toHaveLength(0);
    });
  }
});

test("/v1/fingerprint accepts only JSON and answers 415 to other types", async () => {
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
  ]) {
    const answer = await door.ask("/v1/fingerprint", { body: '{"service":"odd"}', headers: { "content-type": type } });
    expect(refusalOf(answer), type).toMatch(/^415 unsupported_media_type invalid_request_error/);
  }
});

test("malformed JSON is 400 malformed_json", async () => {
  for (const target of ["/v1/fingerprint", IMAGE]) {
    const answer = await door.ask(target, { body: "{", headers: JSON_TYPE });
    expect(refusalOf(answer), target).toBe("400 invalid_request invalid_request_error malformed_json");
  }
});

test("invalid_field names the field", async () => {
  const calls: [json: object, param: RegExp][] = [
    [{ path: "txt2img", input: {} }, /service/],
    [{ service: "odd", path: 5, input: {} }, /path/],
    [{ service: "odd", path: "txt2img", input: {}, sneaky: 1 }, /sneaky/],
  ];
  for (const [json, param] of calls) {
    const answer = await door.ask("/v1/fingerprint", { json });
    expect(refusalOf(answer)).toBe("400 invalid_request invalid_request_error invalid_field");
    expect(errorOf(answer).param).toMatch(param);
  }
});

test("a compressed body is never inflated", async () => {
  const { gzipSync } = await import("node:zlib");
  const bomb = gzipSync(Buffer.alloc(20 * MB));
  const headers = { ...JSON_TYPE, "content-encoding": "gzip" };
  origin.answering = answerEcho;
  expect((await door.ask(HTTP, { body: bomb, headers })).status).toBe(200);
  expect(origin.taken().body.equals(bomb)).toBe(true);
  const image = await door.ask(IMAGE, { body: bomb, headers });
  expect([400, 415]).toContain(image.status);
  expect(origin.seen).toHaveLength(0);
});
