import { env } from "cloudflare:workers";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Ask } from "../../worker/ask.ts";
import type { Fields } from "../../worker/body/fields.ts";
import { Room } from "../../worker/body/buffers.ts";
import type { ServiceRow } from "../../worker/db/queries.ts";
import { fingerprintOf } from "../../worker/fingerprint.ts";
import { completeService } from "../../worker/services/kinds.ts";
import type { ServicePut } from "../../worker/services/service.ts";
import { Spooled } from "../../worker/body/spool.ts";

const KEY = /^[0-9a-f]{64}$/;

interface Asking extends Partial<Omit<Ask, "service">> {
  put?: ServicePut;
  id?: string;
}

/** A speech request: cacheable without a seed. */
function ask({ put, id = "speech", ...more }: Asking = {}): Ask {
  const config = completeService({ ...put, kind: put?.kind ?? "tts", route: "/s/" }, null);
  const bytes = new Uint8Array(3);
  return {
    service: { id, route: "/s/", config } as ServiceRow,
    as: "run",
    method: "POST",
    path: "/s/audio-generate",
    query: "",
    headers: new Headers(),
    body: { kind: "bytes", bytes, room: new Room() },
    mediaType: "application/json",
    fields: { kind: "json", value: { text: "hello" } },
    deadlineAt: null,
    directives: { noStore: false, noCache: false, onlyIfCached: false },
    delivery: { lifeMs: 1, visibility: "signed" },
    ...more,
  };
}

async function keyOf(asking: Asking = {}, tenant = "t1"): Promise<string> {
  const fingerprint = await fingerprintOf(ask(asking), tenant);
  return fingerprint.cacheable ? fingerprint.key : fingerprint.why;
}

const json = (value: unknown): Fields => ({ kind: "json", value });
const ofText = (text: string) => keyOf({ fields: json(JSON.parse(text)) });
const part = (name: string, value: string, head = ""): string =>
  `--b\r\nContent-Disposition: form-data; name="${name}"${head}\r\n\r\n${value}\r\n`;

/** The key of a form with these bytes, one per character. */
function ofForm(...parts: string[]): Promise<string> {
  return ofBytes(`${parts.join("")}--b--\r\n`, "multipart/form-data; boundary=b");
}

function ofBytes(text: string, contentType: string): Promise<string> {
  const bytes = new Uint8Array(Buffer.from(text, "latin1"));
  const headers = new Headers({ "content-type": contentType });
  const mediaType = contentType.split(";")[0]?.toLowerCase() ?? "";
  return keyOf({
    mediaType,
    headers,
    fields: { kind: "form", parts: [] },
    body: { kind: "bytes", bytes, room: new Room() },
  });
}

const ofType = (type: string) => ofBytes("a", type);
const image = (value: unknown, defaults = {}) => keyOf({ put: { kind: "image", defaults }, fields: json(value) });

/** The same JSON with its members in another order. */
function turned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(turned);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([name, member]) => [name, turned(member)]),
  );
}

const jsonValue = fc.jsonValue({ maxDepth: 3 }).map((value): unknown => JSON.parse(JSON.stringify(value)));

test("the same JSON has the same key, however its members are ordered and written", async () => {
  const property = fc.asyncProperty(fc.dictionary(fc.string(), jsonValue), async (value) => {
    const key = await keyOf({ fields: json(value) });
    expect(await keyOf({ fields: json(turned(value)) })).toBe(key);
    expect(await ofText(JSON.stringify(value, null, 3))).toBe(key);
  });
  await fc.assert(property, { numRuns: 300 });
  for (const [one, other] of [
    ["1.0", "1"],
    ["1e2", "100"],
    ["-0", "0"],
    ["0.10", "0.1"],
    ['"\\u0041"', '"A"'],
  ]) {
    expect(await ofText(`{"a":${one}}`), one).toBe(await ofText(`{"a":${other}}`));
  }
});

test("different JSON has different keys", async () => {
  const property = fc.asyncProperty(jsonValue, jsonValue, async (one, other) => {
    const same = JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
    const keys = await Promise.all([one, other].map((value) => keyOf({ fields: json({ value }) })));
    if (keys.every((key) => KEY.test(key))) expect(keys[0] === keys[1]).toBe(same);
  });
  await fc.assert(property, { numRuns: 300 });
  const texts = [
    '{"a":1}',
    '{"a":"1"}',
    '{"a":[1]}',
    '{"a":null}',
    "{}",
    '{"a":1,"b":1}',
    '{"A":1}',
    '{"a":1.5}',
    '{"a":true}',
    '{"__proto__":1}',
    "[]",
    '"a"',
    "null",
  ];
  expect(new Set(await Promise.all(texts.map(ofText))).size).toBe(texts.length);
});

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? 0 : value;
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  // Marked, so that an object without members differs from an empty list.
  return { members: members.map(([name, member]) => [name, sorted(member)]) };
}

test("tenant, service, model, path, query and media type each make the key different", async () => {
  const keys = await Promise.all([
    keyOf({}),
    keyOf({}, "t2"),
    keyOf({ id: "speech2" }),
    keyOf({ put: { model_version: "2" } }),
    keyOf({ path: "/s/inference_sft" }),
    keyOf({ query: "?a=1" }),
    keyOf({ query: "?a=1&a=2" }),
    keyOf({ mediaType: "application/x+json" }),
    keyOf({ fields: null }),
    keyOf({ fields: null, body: { kind: "bytes", bytes: new Uint8Array(4), room: new Room() } }),
  ]);
  expect(keys.filter((key) => !KEY.test(key))).toEqual([]);
  expect(new Set(keys).size).toBe(keys.length);
});

test("a shared cache has one key for all tenants, in a scope of its own", async () => {
  const put = { cache: { shared: true } };
  expect(await keyOf({ put }, "t1")).toBe(await keyOf({ put }, "t2"));
  expect(await fingerprintOf(ask({ put }), "t1")).toMatchObject({ cacheable: true, scope: "shared" });
  expect(await fingerprintOf(ask(), "t1")).toMatchObject({ cacheable: true, scope: "t1" });
});

test("declared defaults are filled in, nothing else is assumed, and given values take precedence", async () => {
  const put = { defaults: { speed: 1, voice: "anna" } };
  const key = await keyOf({ put, fields: json({ text: "x", speed: 1, voice: "anna" }) });
  expect(await keyOf({ put, fields: json({ text: "x" }) })).toBe(key);
  expect(await keyOf({ put, fields: json({ text: "x", voice: "anna" }) })).toBe(key);
  expect(await keyOf({ put, fields: json({ text: "x", speed: 2 }) })).not.toBe(key);
  expect(await keyOf({ fields: json({ text: "x" }) })).not.toBe(key);
});

test("a request that cannot be cached has a reason", async () => {
  const stream = {
    kind: "stream" as const,
    stream: new ReadableStream<Uint8Array>(),
    length: null,
    upload: { refusal: null, turn: "origin" as const, turned: () => undefined, broken: () => undefined },
  };
  const reasons = await Promise.all([
    keyOf({ put: { cache: { enabled: false } } }),
    keyOf({ as: "read" }),
    keyOf({ method: "PUT" }),
    keyOf({ body: stream, fields: null }),
    keyOf({ body: new Spooled(env.RESULTS, "inputs/x", 9e6, () => undefined), fields: null }),
    keyOf({ body: { kind: "none" }, fields: null }),
    keyOf({ directives: { noStore: true, noCache: false, onlyIfCached: false } }),
  ]);
  expect(reasons).toEqual([
    "cache_disabled",
    "not_a_run",
    "not_post",
    "body_streamed",
    "body_spooled",
    "no_body",
    "no_store",
  ]);
});

test("an image has a key only with an explicit, whole, non-negative seed", async () => {
  for (const seed of [0, 1, 2 ** 32]) expect(await image({ seed }), String(seed)).toMatch(KEY);
  for (const value of [
    {},
    { seed: -1 },
    { seed: null },
    { seed: "1" },
    { seed: 1.5 },
    { seed: true },
    [{ seed: 1 }],
    null,
    1,
  ]) {
    expect(await image(value), JSON.stringify(value)).toBe("no_seed");
  }
  // The origin does not get the defaults, so it draws a random seed.
  for (const value of [{}, { seed: -1 }]) expect(await image(value, { seed: 5 })).toBe("no_seed");
});

test("an image with a variation strength has a key only with an explicit variation seed", async () => {
  const seed = 1;
  for (const subseed_strength of [0, -1, "0", "0.0", null]) {
    expect(await image({ seed, subseed_strength }), String(subseed_strength)).toMatch(KEY);
  }
  for (const subseed_strength of [0.5, 1, "0.5", " 1e-3 ", "1_0", true, [1], {}]) {
    const what = JSON.stringify(subseed_strength);
    expect(await image({ seed, subseed_strength, subseed: 0 }), what).toMatch(KEY);
    for (const subseed of [undefined, -1, "7", 1.5, null]) {
      expect(await image({ seed, subseed_strength, subseed }), `${what} ${subseed}`).toBe("no_subseed");
    }
  }
  expect(await image({ seed }, { subseed_strength: 0.5 })).toBe("no_subseed");
  expect(await image({ seed, subseed: 7 }, { subseed_strength: 0.5 })).toMatch(KEY);
  expect(await image({ seed }, { subseed_strength: 0.5, subseed: 7 })).toBe("no_subseed");
});

test("a body with a content coding has no key", async () => {
  const encoded = (coding: string) => keyOf({ headers: new Headers({ "content-encoding": coding }) });
  const plain = await keyOf();
  for (const coding of ["identity", "Identity", "", ", identity"]) expect(await encoded(coding), coding).toBe(plain);
  for (const coding of ["gzip", "GZIP", "x", "identity, br"]) expect(await encoded(coding)).toBe("body_encoded");
});

describe("the content type in the key", () => {
  test("keeps the values of its parameters as they are", async () => {
    const types = [
      "text/x",
      "text/x; profile=A",
      "text/x; profile=a",
      "text/x; profile=ab",
      'text/x; profile="a b"',
      'text/x; profile="a;boundary=1"',
      'text/x; profile="a;boundary=2"',
      'text/x; profile="a\\";charset=utf-8"',
      "text/x; charset=utf-8",
      "text/x; charset=gbk",
      "text/x; boundary=1",
      "text/x; boundary=2",
      "multipart/mixed; boundary=1",
      "multipart/mixed; boundary=2",
    ];
    const keys = await Promise.all(types.map(ofType));
    expect(keys.filter((key) => !KEY.test(key))).toEqual([]);
    expect(new Set(keys).size).toBe(types.length);
  });

  test("ignores case of type and names, spaces between parameters, and implied charsets", async () => {
    for (const [one, other] of [
      ["text/x; Profile=A", "Text/X;profile=A"],
      ["text/x; a=1; b=2", "text/x;a=1 ;b=2"],
      ["application/json", 'application/json; Charset="UTF-8"'],
      ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded;charset=utf-8"],
    ] as const) {
      expect(await ofType(one), one).toBe(await ofType(other));
    }
  });
});

test("JSON numbers that lose precision have no key: different requests would share an answer", async () => {
  for (const number of [
    "9007199254740993",
    "9007199254740992",
    "-9007199254740993",
    "1e400",
    "123456789012345678901234567890",
  ]) {
    expect(await ofText(`{"text":"x","a":[{"b":${number}}]}`), number).toBe("not_canonical");
  }
  expect(await ofText(`{"text":"x","seed":9007199254740991}`)).toMatch(KEY);
});

test("a value without a canonical form has no key, and nothing fails", async () => {
  expect(await ofText('{"a":"\\ud800"}')).toBe("not_canonical");
  const deep: unknown = JSON.parse("[".repeat(10_000) + "]".repeat(10_000));
  expect(await keyOf({ fields: json(deep) })).toBe("not_canonical");
});

test("a form's key depends on the exact bytes of its parts, but not on the boundary", async () => {
  const keys = await Promise.all([
    ofForm(part("a", "1"), part("b", "2")),
    ofForm(part("b", "2"), part("a", "1")),
    ofForm(part("a", "1"), part("b", "2"), part("b", "2")),
    ofForm(part("a", "12")),
    ofForm(part("a1", "2")),
    ofForm(part("a", "1", '; filename="x.wav"'), part("b", "2")),
    ofForm(part("a", "1", "\r\nContent-Type: audio/wav"), part("b", "2")),
    // Invalid UTF-8 would look alike if each bad byte became the same replacement character.
    ofForm(part("a", "\xc4\xe3")),
    ofForm(part("a", "\xce\xd2")),
    ofBytes("a=%FF", "application/x-www-form-urlencoded"),
    ofBytes("a=%FE", "application/x-www-form-urlencoded"),
    ofForm(),
  ]);
  expect(keys.filter((key) => !KEY.test(key))).toEqual([]);
  expect(new Set(keys).size).toBe(keys.length);
  const other = `${part("a", "1")}${part("b", "2")}--b--\r\n`.replaceAll("--b", "--other");
  expect(await ofBytes(other, "multipart/form-data; boundary=other")).toBe(keys[0]);
});
