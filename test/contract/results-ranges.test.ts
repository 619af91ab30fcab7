/** Conditional and range requests (RFC 9110), and `?download=NAME`. */
import { beforeAll, describe, expect, test } from "vitest";
import { doorway, expectOk, linksOf, refusalOf } from "./doorway.ts";

const door = doorway();
let path: string;
let bytes: Buffer;
let etag: string;
let modified: string;

beforeAll(async () => {
  const [url = ""] = linksOf(expectOk(await door.paint({ width: 64, height: 64 })));
  path = new URL(url).pathname;
  const answer = expectOk(await door.ask(path));
  bytes = answer.body;
  etag = answer.header("etag") ?? "";
  modified = answer.header("last-modified") ?? "";
});

const ask = (headers: Record<string, string | string[]>, method = "GET") => door.ask(path, { method, headers });
const earlier = () => new Date(Date.parse(modified) - 1_000).toUTCString();

describe("If-None-Match", () => {
  test("gets 304 with the validators and no body when a tag matches by weak comparison", async () => {
    for (const tag of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const answer = await ask({ "if-none-match": tag });
      expect(answer.status, tag).toBe(304);
      expect(answer.body, tag).toHaveLength(0);
      expect(answer.header("etag"), tag).toBe(etag);
      expect(answer.header("cache-control"), tag).toContain("private");
      expect((await ask({ "if-none-match": tag }, "HEAD")).status, tag).toBe(304);
    }
  });

  test("gets the result when no tag matches", async () => {
    for (const tag of ['"other"', 'W/"other"', etag.slice(1, -1), `"${etag.slice(1, 10)}"`, '""']) {
      expect((await ask({ "if-none-match": tag })).status, tag).toBe(200);
    }
  });

  test("takes precedence over If-Modified-Since", async () => {
    expect((await ask({ "if-none-match": '"other"', "if-modified-since": modified })).status).toBe(200);
  });
});

describe("If-Modified-Since", () => {
  test("gets 304 from the result's date on, 200 before it, and is ignored if it is not a date", async () => {
    expect((await ask({ "if-modified-since": modified })).status).toBe(304);
    expect((await ask({ "if-modified-since": new Date(Date.parse(modified) + 5_000).toUTCString() })).status).toBe(304);
    expect((await ask({ "if-modified-since": earlier() })).status).toBe(200);
    expect((await ask({ "if-modified-since": "yesterday" })).status).toBe(200);
  });
});

describe("Range", () => {
  const SINGLE: [range: string, from: number, to: (length: number) => number][] = [
    ["bytes=0-0", 0, () => 0],
    ["bytes=0-9", 0, () => 9],
    ["bytes=5-", 5, (length) => length - 1],
    ["bytes=10-99999999", 10, (length) => length - 1],
    ["Bytes=0-3", 0, () => 3],
  ];
  for (const [range, from, last] of SINGLE) {
    test(`${range} gets those bytes`, async () => {
      const answer = await ask({ range });
      const to = last(bytes.length);
      expect(answer.status).toBe(206);
      expect(answer.header("content-range")).toBe(`bytes ${from}-${to}/${bytes.length}`);
      expect(answer.header("content-length")).toBe(String(to - from + 1));
      expect(answer.body.equals(bytes.subarray(from, to + 1))).toBe(true);
      expect(answer.header("etag")).toBe(etag);
    });
  }

  for (const [range, count] of [
    ["bytes=-1", 1],
    ["bytes=-20", 20],
    ["bytes=-99999999", null],
  ] as const) {
    test(`${range} gets the end`, async () => {
      const answer = await ask({ range });
      expect(answer.status).toBe(206);
      const from = bytes.length - (count ?? bytes.length);
      expect(answer.header("content-range")).toBe(`bytes ${from}-${bytes.length - 1}/${bytes.length}`);
      expect(answer.body.equals(bytes.subarray(from))).toBe(true);
    });
  }

  test("beyond the end gets 416 with the length", async () => {
    for (const range of ["bytes=99999999-", `bytes=${bytes.length}-`, "bytes=-0", "bytes=99999999999999999999-"]) {
      const answer = await ask({ range });
      expect(refusalOf(answer), range).toMatch(/^416 range_not_satisfiable invalid_request_error/);
      expect(answer.header("content-range"), range).toBe(`bytes */${bytes.length}`);
    }
  });

  test("that is malformed gets the whole result or 416", async () => {
    for (const range of [
      "bytes=5-2",
      "bytes=",
      "bytes=a-b",
      "bytes=-",
      "bytes=--1",
      "items=0-5",
      "0-5",
      "bytes=0x0-5",
      "bytes=1.5-2",
      "bytes=0-0-0",
      "",
      "bytes 0-5",
    ]) {
      const answer = await ask({ range });
      expect([200, 416], range).toContain(answer.status);
      if (answer.status === 200) expect(answer.body.equals(bytes), range).toBe(true);
    }
  });

  test("with many parts gets the whole result, those parts or 416", async () => {
    const thousand = `bytes=${Array.from({ length: 1_000 }, (_, i) => `${i}-${i}`).join(",")}`;
    for (const range of ["bytes=0-1,4-5", "bytes=0-,0-,0-,0-", thousand, "bytes=0-1, 99999999-"]) {
      const answer = await ask({ range });
      expect([200, 206, 416], range.slice(0, 40)).toContain(answer.status);
      if (answer.status === 200) expect(answer.body.equals(bytes)).toBe(true);
      expect(answer.body.length, "no more than was stored, parts and all").toBeLessThan(bytes.length + 500_000);
    }
  });

  test("on HEAD is ignored (RFC 9110 defines it for GET)", async () => {
    const answer = await ask({ range: "bytes=0-3" }, "HEAD");
    expect(answer.status).toBe(200);
    expect(answer.header("content-length")).toBe(String(bytes.length));
  });

  test("with a matching If-None-Match gets 304", async () => {
    expect((await ask({ range: "bytes=0-3", "if-none-match": etag })).status).toBe(304);
  });
});

const ranged = async (ifRange: string) => (await ask({ range: "bytes=0-3", "if-range": ifRange })).status;

describe("If-Range", () => {
  test("with the strong tag gets the range", async () => expect(await ranged(etag)).toBe(206));
  test("with another tag, a weak one or a list gets the whole result", async () => {
    for (const tag of ['"other"', `W/${etag}`, `${etag}, "other"`, "*", "nonsense"])
      expect(await ranged(tag), tag).toBe(200);
  });
  test("with a date that is not the result's own gets the whole result", async () => {
    for (const date of [earlier(), new Date(Date.now() + 100_000).toUTCString(), "yesterday"])
      expect(await ranged(date), date).toBe(200);
  });
});

describe("a failed precondition:", () => {
  test("If-Match gets the result or 412", async () => {
    expect((await ask({ "if-match": etag })).status).toBe(200);
    const failed = await ask({ "if-match": '"other"' });
    expect([200, 412]).toContain(failed.status);
    if (failed.status === 412) expect(failed.header("cache-control")).toBe("no-store");
  });
});

const disposition = async (query: string) => expectOk(await door.ask(`${path}?${query}`)).header("content-disposition");

describe("?download=NAME", () => {
  test("makes an attachment of that name", async () => {
    expect(await disposition("download=portrait.png")).toMatch(/^attachment;.*filename="?portrait\.png"?/);
  });

  test("accepts any script, encoded as in RFC 8187", async () => {
    expect(await disposition(`download=${encodeURIComponent("肖像 é.png")}`)).toContain(
      "filename*=UTF-8''%E8%82%96%E5%83%8F%20%C3%A9.png",
    );
  });

  test("makes a hostile name harmless", async () => {
    const hostile = [
      'a"; filename="b.exe',
      "a\r\nSet-Cookie: b=1",
      "../../etc/passwd",
      "..\\..\\x.png",
      "a\0b.png",
      "a\\",
      "%",
      "%0d%0a",
      "a;b=c",
      "x".repeat(5_000),
      "",
      " ",
      ".",
      "..",
      "\u202egnp.exe",
      "a/b/c.png",
      "\ud83d\ude00.png",
      "con",
    ];
    for (const name of hostile) {
      const answer = expectOk(await door.ask(`${path}?download=${encodeURIComponent(name)}`));
      expect(answer.body.equals(bytes), name).toBe(true);
      expect(answer.header("set-cookie"), name).toBe(null);
      const said = answer.header("content-disposition");
      if (said === null) continue;
      expect(said, name).toMatch(/^attachment(;|$)/);
      expect(said.length, name).toBeLessThan(4_000);
      const [, quoted = ""] = /filename="((?:[^"\\]|\\.)*)"/.exec(said) ?? [];
      expect(`${quoted}${decodeURIComponent(/filename\*=UTF-8''(\S*)/.exec(said)?.[1] ?? "")}`, name).not.toMatch(
        /[/\p{Cc}\u202e]/u,
      );
      expect(said.match(/filename=/g)?.length ?? 0, name).toBeLessThanOrEqual(1);
    }
  });

  test("uses the default name for dots and invisible characters", async () => {
    const whole = `attachment; filename="result"; filename*=UTF-8''result`;
    for (const name of ["", " ", ".", "..", "...", " . ", "a/..", "\\", "\u200b", "\u2003.", "\ufeff"]) {
      expect(await disposition(`download=${encodeURIComponent(name)}`), JSON.stringify(name)).toBe(whole);
    }
    expect(await disposition("download=.a")).toContain('filename=".a"');
  });

  test("works with a signed URL and does not break its signature", async () => {
    const [url = ""] = linksOf(await door.paint());
    const { pathname, search } = new URL(url);
    const answer = expectOk(await door.ask(`${pathname}${search}&download=a.png`, { key: null }));
    expect(answer.header("content-disposition")).toContain("a.png");
  });
});
