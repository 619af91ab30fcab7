/** The form of a key, and every way to present one. */
import { describe, expect, test } from "vitest";
import { doorway, errorOf, expectOk, refusalOf } from "./doorway.ts";

const door = doorway();
/** Takes no slot and needs a key with the infer scope. */
const READ = "/sdapi/v1/sd-models";
/** 160 bits and 32 bits in base 62. */
const SECRET_CHARS_MIN = 27;
const CHECKSUM_CHARS_MIN = 6;

const withHeaders = (headers: Record<string, string | string[]>) => door.ask(READ, { key: null, headers });
const basic = (user: string, password: string) => `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
const swapped = (key: string, at: number) => {
  const i = at < 0 ? key.length + at : at;
  return `${key.slice(0, i)}${key[i] === "a" ? "b" : "a"}${key.slice(i + 1)}`;
};

test("a key is ptk_live_<id>_<secret><checksum> of letters and digits, long enough for 160 and 32 bits", () => {
  const [, tail = ""] = /^ptk_live_[0-9A-Za-z]+_([0-9A-Za-z]+)$/.exec(door.ownKey) ?? [];
  expect(tail.length).toBeGreaterThanOrEqual(SECRET_CHARS_MIN + CHECKSUM_CHARS_MIN);
});

test("two keys differ in id and secret", async () => {
  const [, , id, tail] = door.ownKey.split("_");
  const [, , otherId, otherTail] = (await door.key()).split("_");
  expect(otherId).not.toBe(id);
  expect(otherTail).not.toBe(tail);
});

describe("a key is accepted as", () => {
  const WAYS: Record<string, (key: string) => Record<string, string>> = {
    "Authorization: Bearer": (key) => ({ authorization: `Bearer ${key}` }),
    "Authorization: Key": (key) => ({ authorization: `Key ${key}` }),
    "Authorization: Token": (key) => ({ authorization: `Token ${key}` }),
    "X-API-Key": (key) => ({ "x-api-key": key }),
    "HTTP Basic's password": (key) => ({ authorization: basic("anybody", key) }),
    "HTTP Basic's password with no user": (key) => ({ authorization: basic("", key) }),
    "a scheme in small letters, as HTTP has it": (key) => ({ authorization: `bearer ${key}` }),
  };
  for (const [way, headers] of Object.entries(WAYS)) {
    test(way, async () => expectOk(await withHeaders(headers(door.ownKey))));
  }
});

describe("two different credentials in one request are 401 malformed:", () => {
  const PAIRS: Record<string, (a: string, b: string) => Record<string, string | string[]>> = {
    "Authorization and X-API-Key": (a, b) => ({ authorization: `Bearer ${a}`, "x-api-key": b }),
    "two Authorization headers": (a, b) => ({ authorization: [`Bearer ${a}`, `Bearer ${b}`] }),
    "two X-API-Key headers": (a, b) => ({ "x-api-key": [a, b] }),
    "Basic and X-API-Key": (a, b) => ({ authorization: basic("", a), "x-api-key": b }),
    "a good one and nonsense": (a) => ({ authorization: `Bearer ${a}`, "x-api-key": "nonsense" }),
  };
  for (const [pair, headers] of Object.entries(PAIRS)) {
    test(pair, async () => {
      const refused = await withHeaders(headers(door.ownKey, await door.key()));
      expect(refusalOf(refused)).toBe("401 invalid_api_key authentication_error malformed");
    });
  }
});

test("the same credential in two headers counts as one", async () => {
  expectOk(await withHeaders({ authorization: `Bearer ${door.ownKey}`, "x-api-key": door.ownKey }));
});

test("a key in the query is ignored", async () => {
  for (const name of ["api_key", "key", "token", "access_token", "apikey", "x-api-key", "authorization"]) {
    const refused = await door.ask(`${READ}?${name}=${door.ownKey}`, { key: null });
    expect(refusalOf(refused), name).toBe("401 invalid_api_key authentication_error missing");
  }
});

test("a key in a body or a cookie is ignored", async () => {
  const headers = { cookie: `api_key=${door.ownKey}; authorization=Bearer ${door.ownKey}` };
  const refused = await door.paint({ api_key: door.ownKey }, { key: null, headers });
  expect(errorOf(refused).reason).toBe("missing");
});

test("a typo anywhere in a key is refused", async () => {
  const key = door.ownKey;
  const firstOfSecret = key.lastIndexOf("_") + 1;
  const typos = {
    "in the prefix": swapped(key, 0),
    "in live": swapped(key, 5),
    "in the id": swapped(key, 9),
    "in the secret": swapped(key, firstOfSecret + 3),
    "in the checksum": swapped(key, -1),
    "a letter lost": key.slice(0, -1),
    "a letter more": `${key}a`,
    "two letters changed places": `${key.slice(0, -2)}${key.at(-1)}${key.at(-2)}`,
    "of case": key.toUpperCase(),
  };
  for (const [where, typo] of Object.entries(typos)) {
    if (typo === key) continue;
    const refused = await withHeaders({ authorization: `Bearer ${typo}` });
    expect(refusalOf(refused), where).toMatch(/^401 invalid_api_key authentication_error (malformed|unknown)$/);
  }
});

test("a string that is not one of our keys is refused, whatever its form", async () => {
  const foreign = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz012345",
    "r8_abcdefghijklmnopqrstuvwxyz0123456789a",
    "ptk_live_",
    "ptk_live__",
    `ptk_test_${door.ownKey.slice("ptk_live_".length)}`,
    `ptk_live_${"a".repeat(10_240)}`,
    "' OR 1=1 --",
    "../../etc/passwd",
    "null",
  ];
  for (const key of foreign) {
    for (const headers of [
      { authorization: `Bearer ${key}` },
      { "x-api-key": key },
      { authorization: basic("u", key) },
    ]) {
      const refused = await withHeaders(headers);
      expect(refusalOf(refused), key.slice(0, 40)).toMatch(
        /^401 invalid_api_key authentication_error (malformed|unknown)$/,
      );
    }
  }
});

test("an Authorization header without a credential gets 401", async () => {
  for (const authorization of [
    "Bearer",
    "Bearer ",
    "Basic",
    "Basic !!!",
    `Basic ${btoa("no colon")}`,
    "Digest x=y",
    ",",
    door.ownKey,
  ]) {
    const refused = await withHeaders({ authorization });
    expect(refusalOf(refused), authorization).toMatch(
      /^401 invalid_api_key authentication_error (missing|malformed|unknown)$/,
    );
  }
});

test("no credential at all is 401 missing", async () => {
  expect(refusalOf(await withHeaders({}))).toBe("401 invalid_api_key authentication_error missing");
});

test("the list of keys does not contain the key itself", async () => {
  const listed = await door.portico.admin("GET", "/keys?limit=1000");
  expect(JSON.stringify(listed)).not.toContain(door.ownKey.split("_").at(-1));
});
