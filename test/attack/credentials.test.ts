/** Attacks on keys: a string that is not a key opens nothing, costs no lookup and reveals nothing. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { errorOf, expectOk, refusalOf } from "../contract/doorway.ts";
import { countedDoorway, costOf } from "./cost.ts";

const door = await countedDoorway();
const READ = "/sdapi/v1/sd-models";
const KIB = 1024;
/** A check that is quadratic in the length of the header would take seconds. */
const BLANKS_MS_MAX = 1_000;

type Headers = Record<string, string | string[]>;
const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;
/** A call that reads no list of services, as a service's route does. */
const NO_SERVICE = "/v1/requests/none";
const show = (headers: Headers, target = READ) => door.ask(target, { key: null, headers });

/** Strings that are not keys, derived from a valid one. */
function noKeys(key: string): Record<string, string> {
  const secret = key.split("_").at(-1) ?? "";
  return {
    "without its prefix": key.replace("ptk_live_", ""),
    "prefix in capitals": key.replace("ptk_live_", "PTK_LIVE_"),
    "another prefix": key.replace("live", "test"),
    "all in small letters": key.toLowerCase(),
    "twice in a row": key + key,
    "twice with a blank": `${key} ${key}`,
    "twice with a comma": `${key},${key}`,
    "in quotes": `"${key}"`,
    "with a scheme in it": `Bearer ${key}`,
    "with a letter before": `a${key}`,
    "with a line's end escaped": `${key}%0a`,
    "with an escaped NUL": `${key}%00`,
    "escaped as in a URL": key.replaceAll("_", "%5F"),
    "the secret alone": secret,
    "10 KB": `ptk_live_${"a".repeat(10 * KIB)}`,
    "10 KB after a good one": key + "a".repeat(10 * KIB),
    "a letter that looks alike": key.replace("ptk", "ptк"),
    "letters of full width": key.replace("live", "ｌｉｖｅ"),
    "a joiner of no width": `${key.slice(0, 20)}\u200b${key.slice(20)}`,
    "a soft hyphen": `${key.slice(0, 20)}\u00ad${key.slice(20)}`,
    "a blank that does not break": `\u00a0${key}`,
    "a number of another script": key.replace(/[0-9]/, "٣"),
    SQL: `${key}' OR '1'='1`,
    JSON: JSON.stringify({ key }),
    "a pattern": "ptk_live_%_%",
    "an object's property": "__proto__",
    "a token of the admin": door.portico.adminToken,
  };
}

describe("an invalid key is refused with 401 and without a lookup, whichever header carries it:", () => {
  const WAYS: Record<string, (key: string) => Headers> = {
    Bearer: (key) => ({ authorization: `Bearer ${key}` }),
    Key: (key) => ({ authorization: `Key ${key}` }),
    Token: (key) => ({ authorization: `Token ${key}` }),
    "X-API-Key": (key) => ({ "x-api-key": key }),
    "a password": (key) => ({ authorization: basic(`user:${key}`) }),
  };
  for (const [way, headers] of Object.entries(WAYS)) {
    test(way, async () => {
      const key = door.ownKey;
      expectOk(await show(headers(key)));
      const bad = Object.entries(noKeys(key)).filter(([, text]) => text !== key);
      const cost = await costOf(door, async () => {
        for (const [what, text] of bad) {
          const answer = await show(headers(text), NO_SERVICE);
          expect(refusalOf(answer), what).toBe("401 invalid_api_key authentication_error malformed");
          expect(answer.text, what).not.toContain(key.split("_").at(-1));
        }
      });
      // Only a well-formed key with a wrong checksum reaches the rate limiter.
      expect(Object.keys(cost).filter((name) => name !== "limits")).toEqual([]);
    });
  }
});

describe("a header that carries a valid key in an unsupported form is refused:", () => {
  const WAYS: Record<string, (key: string) => Headers> = {
    "a scheme of no name": (key) => ({ authorization: key }),
    "an unknown scheme": (key) => ({ authorization: `Secret ${key}` }),
    "a scheme run into the key": (key) => ({ authorization: `Bearer${key}` }),
    Digest: (key) => ({ authorization: `Digest username="${key}"` }),
    "as the user": (key) => ({ authorization: basic(`${key}:`) }),
    "as user and password, but another": (key) => ({ authorization: basic(`${key}:${key}x`) }),
    "Basic without encoding": (key) => ({ authorization: `Basic user:${key}` }),
    "a cookie": (key) => ({ cookie: `authorization=Bearer ${key}; x-api-key=${key}` }),
    "another header": (key) => ({ "api-key": key, "x-auth-token": key, "proxy-authorization": `Bearer ${key}` }),
    "another name for it": (key) => ({ x_api_key: key, "x-api-keys": key, authorization2: `Bearer ${key}` }),
    "forwarded by nobody": (key) => ({ "x-forwarded-authorization": `Bearer ${key}`, "x-original-authorization": key }),
  };
  for (const [way, headers] of Object.entries(WAYS)) {
    test(way, async () => {
      const answer = await show(headers(door.ownKey));
      expect(refusalOf(answer)).toMatch(/^401 invalid_api_key authentication_error (missing|malformed)$/);
    });
  }

  test("a key with a NUL, or a header of two lines, is refused with 400 or 401", async () => {
    for (const value of [`Bearer ${door.ownKey}\0`, `Bearer\0${door.ownKey}`, `Bearer\r\n ${door.ownKey}`]) {
      const answer = await show({ authorization: value });
      expect([400, 401], JSON.stringify(value)).toContain(answer.status);
    }
  });

  test("an Authorization header of about 50 KB is refused with 400, 401 or 431", async () => {
    const answers = await Promise.all([
      show({ authorization: `Bearer ${"a".repeat(50 * KIB)}` }),
      show({ authorization: `${"Bearer ".repeat(7 * KIB)}${door.ownKey}` }),
      show({ authorization: `Bearer ${" ".repeat(50 * KIB)}${door.ownKey} x` }),
      show({ authorization: Array.from({ length: 500 }, (_, i) => `Bearer ${door.ownKey}${i}`) }),
    ]);
    for (const { status } of answers) expect([400, 401, 431]).toContain(status);
  });

  test("a credential header with 60 KB of blanks is refused within a second", async () => {
    const blanks = " ".repeat(60 * KIB);
    for (const value of [
      `Bearer x${blanks}x`,
      `Bearer${blanks}x y`,
      `Bearer ${blanks}\t${blanks}`,
      `${blanks}Bearer x y`,
    ]) {
      const start = performance.now();
      expect([400, 401, 431]).toContain((await show({ authorization: value })).status);
      expect([400, 401, 431]).toContain((await show({ "x-api-key": value })).status);
      expect(performance.now() - start).toBeLessThan(BLANKS_MS_MAX);
    }
  });

  test("a valid key still works, even with blanks around it", async () => {
    expectOk(await show({ authorization: `Bearer   ${door.ownKey}  ` }));
    expectOk(await show({ "x-api-key": `  ${door.ownKey}\t` }));
    expectOk(await show({ authorization: `Bearer ${door.ownKey}` }));
  });
});

describe("two credentials", () => {
  test("that differ or come twice are malformed in any order, even if one is valid, and cost no lookup", async () => {
    const [a, b] = [door.ownKey, await door.key()];
    const pairs: Headers[] = [
      { authorization: `Bearer ${a}`, "x-api-key": b },
      { "x-api-key": a, authorization: `Token ${b}` },
      { authorization: `Bearer ${a}`, "x-api-key": `${a}x` },
      { authorization: `Bearer ${a}`, "x-api-key": a.toLowerCase() },
      { authorization: [`Bearer ${a}`, `Key ${a}`] },
      { authorization: [`Bearer ${a}`, basic(`u:${b}`)] },
      { "x-api-key": [a, a] },
      { "x-api-key": `${a}, ${b}` },
      { authorization: `Bearer ${a}, Bearer ${a}` },
      { authorization: `Bearer ${a}`, "x-api-key": door.portico.adminToken },
    ];
    const cost = await costOf(door, async () => {
      for (const headers of pairs) {
        const answer = await show(headers, NO_SERVICE);
        expect(errorOf(answer), JSON.stringify(Object.keys(headers))).toMatchObject({ reason: "malformed" });
      }
    });
    expect(cost).toEqual({});
  });
});

describe("a key in a query", () => {
  test("is refused under every common parameter name, and does not appear in the log", async () => {
    const names = ["key", "api_key", "apikey", "x-api-key", "X-API-Key", "token", "access_token", "authorization"];
    for (const name of names) {
      for (const value of [door.ownKey, `Bearer%20${door.ownKey}`]) {
        const answer = await door.ask(`${READ}?${name}=${value}`, { key: null });
        expect(refusalOf(answer), name).toBe("401 invalid_api_key authentication_error missing");
        expect(answer.text).not.toContain(door.ownKey);
      }
    }
    const log = await readFile(join(door.portico.stateDir, "portico.log"), "utf8");
    expect(log.split("\n").length).toBeGreaterThan(2 * names.length);
    expect(log).not.toContain(door.ownKey.split("_").at(-1));
  });
});
