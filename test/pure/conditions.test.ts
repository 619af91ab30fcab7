import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isNotModified, preconditionFailed, requestedRange } from "../../worker/conditions.ts";

const ETAG = '"0a1b2c"';
/** 1994-11-06 08:49:37.5 UTC: the date of the RFC's own examples, and half a second. */
const MODIFIED_AT = 784_111_777_500;
const SAME = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER = "Sun, 06 Nov 1994 08:49:38 GMT";
const BYTES = 1_000;

const fails = (headers: Record<string, string>) => preconditionFailed(new Headers(headers), ETAG, MODIFIED_AT);
const unmodified = (headers: Record<string, string>) => isNotModified(new Headers(headers), ETAG, MODIFIED_AT);
const range = (headers: Record<string, string>, bytes = BYTES, method = "GET") =>
  requestedRange(new Request("http://portico/", { method, headers }), ETAG, bytes);

describe("If-Match compares strongly, and stands above If-Unmodified-Since (RFC 9110 13.1.1, 13.2.2)", () => {
  test.each([
    [ETAG, false],
    ["*", false],
    [' "x" , "0a1b2c" ', false],
    ['"x"', true],
    [`W/${ETAG}`, true],
    ["0a1b2c", true],
    ["", true],
  ])("If-Match: %s fails: %s", (header, failed) => {
    expect(fails({ "if-match": header })).toBe(failed);
    expect(fails({ "if-match": header, "if-unmodified-since": failed ? AFTER : BEFORE })).toBe(failed);
  });
});

describe("If-Unmodified-Since fails for what was modified later, in whole seconds (13.1.4)", () => {
  test.each([
    [SAME, false],
    [AFTER, false],
    [BEFORE, true],
    ["Sunday, 06-Nov-94 08:49:36 GMT", true],
    ["Sun Nov  6 08:49:36 1994", true],
    ["Sunday, 06-Nov-94 08:49:37 GMT", false],
    ["Sun Nov  6 08:49:37 1994", false],
  ])("%s fails: %s", (date, failed) => expect(fails({ "if-unmodified-since": date })).toBe(failed));
});

describe("If-None-Match compares weakly, and stands above If-Modified-Since (13.1.2, 13.2.2)", () => {
  test.each([
    [ETAG, true],
    [`W/${ETAG}`, true],
    ["*", true],
    ['"x", W/"0a1b2c"', true],
    ['"x"', false],
    ['"0A1B2C"', false],
    ['"0a1b2c', false],
  ])("If-None-Match: %s is not modified: %s", (header, not) => {
    expect(unmodified({ "if-none-match": header })).toBe(not);
    expect(unmodified({ "if-none-match": header, "if-modified-since": not ? BEFORE : AFTER })).toBe(not);
  });
});

describe("If-Modified-Since, in all three forms of a date (13.1.3, 5.6.7)", () => {
  test.each([
    [SAME, true],
    [AFTER, true],
    [BEFORE, false],
    ["Sunday, 06-Nov-94 08:49:37 GMT", true],
    ["Sun Nov  6 08:49:37 1994", true],
    ["Sun Nov  6 08:49:36 1994", false],
  ])("%s is not modified: %s", (date, not) => expect(unmodified({ "if-modified-since": date })).toBe(not));
});

test.each(["2030", "tomorrow", "1", "Sun, 06 Nov 2094 08:49:37", "Sun, 06 Nov 2094 08:49:37 +0100", "2094-11-06T08:49:37Z", "Sun, 99 Nov 2094 08:49:37 GMT", ""])(
  "what is no date of HTTP is ignored: %s",
  (date) => {
    expect(unmodified({ "if-modified-since": date })).toBe(false);
    expect(fails({ "if-unmodified-since": date })).toBe(false);
  },
);

test("without a condition nothing fails and everything is sent", () => {
  expect([fails({}), unmodified({}), range({})]).toEqual([false, false, null]);
});

describe("one range (14.1.2)", () => {
  test.each([
    ["bytes=0-0", { offset: 0, length: 1 }],
    ["bytes=0-499", { offset: 0, length: 500 }],
    ["bytes=500-999", { offset: 500, length: 500 }],
    ["bytes=500-", { offset: 500, length: 500 }],
    ["bytes=500-99999", { offset: 500, length: 500 }],
    ["bytes=999-", { offset: 999, length: 1 }],
    ["bytes=-1", { offset: 999, length: 1 }],
    ["bytes=-500", { offset: 500, length: 500 }],
    ["bytes=-99999", { offset: 0, length: 1_000 }],
    ["BYTES=0-0", { offset: 0, length: 1 }],
    ["bytes=1000-", "unsatisfiable"],
    ["bytes=1000-2000", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    [`bytes=${"9".repeat(400)}-`, "unsatisfiable"],
  ])("%s", (header, expected) => expect(range({ range: header })).toEqual(expected));
});

describe("the whole is sent for what is malformed, of another unit, or several", () => {
  const several = `bytes=${Array.from({ length: 1_000 }, (_, i) => `${i}-${i}`).join(",")}`;
  test.each(["bytes=5-2", "bytes=-", "bytes=", "bytes", "bytes=a-b", "bytes=1-2-3", "bytes=--1", "bytes=0x1-2", "items=0-1", "0-1", "bytes=0-0,2-3", several])(
    "%s",
    (header) => expect(range({ range: header })).toBeNull(),
  );
});

test("a range is for GET alone (14.2)", () => {
  for (const method of ["HEAD", "POST", "DELETE", "OPTIONS"]) expect(range({ range: "bytes=0-0" }, BYTES, method), method).toBeNull();
});

describe("If-Range allows the range only by a strong match (13.1.5)", () => {
  test.each([
    [ETAG, true],
    [`W/${ETAG}`, false],
    ['"x"', false],
    ["*", false],
    [SAME, false],
    ["", false],
  ])("If-Range: %s allows: %s", (header, allows) => {
    expect(range({ range: "bytes=0-0", "if-range": header }) !== null).toBe(allows);
  });
});

test("a range that is given lies within the bytes, and is what was asked", () => {
  const number = fc.option(fc.nat({ max: 30 }));
  const property = fc.property(number, number, fc.nat({ max: 20 }), (first, last, bytes) => {
    const given = range({ range: `bytes=${first ?? ""}-${last ?? ""}` }, bytes);
    const all = Array.from({ length: bytes }, (_, i) => i);
    const asked = first === null ? all.slice(bytes - Math.min(last ?? 0, bytes)) : all.filter((i) => i >= first && i <= (last ?? bytes));
    if (first === null && last === null) return expect(given).toBeNull();
    if (first !== null && last !== null && last < first) return expect(given).toBeNull();
    if (asked.length === 0) return expect(given).toBe("unsatisfiable");
    return expect(given).toEqual({ offset: asked[0], length: asked.length });
  });
  fc.assert(property, { numRuns: 2_000 });
});
