import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type ByteRange, isNotModified, preconditionFailed, requestedRange } from "../../worker/results/conditions.ts";

const ETAG = '"0a1b2c"';
/** 1994-11-06 08:49:37.5 UTC: the date of the RFC's own examples, plus half a second. */
const MODIFIED_AT = 784_111_777_500;
const SAME = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER = "Sun, 06 Nov 1994 08:49:38 GMT";
const BYTES = 1_000;

const fails = (headers: Record<string, string>) => preconditionFailed(new Headers(headers), ETAG, MODIFIED_AT);
const unmodified = (headers: Record<string, string>) => isNotModified(new Headers(headers), ETAG, MODIFIED_AT);
const range = (headers: Record<string, string>, bytes = BYTES, method = "GET") =>
  requestedRange(new Request("http://portico/", { method, headers }), ETAG, bytes);

/** Compares the results for a table of header values with the expected ones. */
function expectTable<T>(table: [header: string, expected: T][], actual: (header: string) => T): void {
  expect(table.map(([header]) => [header, actual(header)])).toEqual(table);
}

test("If-Match compares strongly (RFC 9110 13.1.1) and takes precedence over If-Unmodified-Since (13.2.2)", () => {
  const table: [string, boolean][] = [
    [ETAG, false],
    ["*", false],
    [' "x" , "0a1b2c" ', false],
    ['"x"', true],
    [`W/${ETAG}`, true],
    ["0a1b2c", true],
    ["", true],
  ];
  expectTable(table, (header) => fails({ "if-match": header }));
  for (const since of [BEFORE, AFTER])
    expectTable(table, (header) => fails({ "if-match": header, "if-unmodified-since": since }));
});

test("If-None-Match compares weakly (13.1.2) and takes precedence over If-Modified-Since (13.2.2)", () => {
  const table: [string, boolean][] = [
    [ETAG, true],
    [`W/${ETAG}`, true],
    ["*", true],
    ['"x", W/"0a1b2c"', true],
    ['"x"', false],
    ['"0A1B2C"', false],
    ['"0a1b2c', false],
  ];
  expectTable(table, (header) => unmodified({ "if-none-match": header }));
  for (const since of [BEFORE, AFTER])
    expectTable(table, (header) => unmodified({ "if-none-match": header, "if-modified-since": since }));
});

test("dates compare in whole seconds, in all three HTTP date formats (13.1.3, 13.1.4, 5.6.7)", () => {
  const table: [string, boolean][] = [
    [SAME, true],
    [AFTER, true],
    [BEFORE, false],
    ["Sunday, 06-Nov-94 08:49:37 GMT", true],
    ["Sunday, 06-Nov-94 08:49:36 GMT", false],
    ["Sun Nov  6 08:49:37 1994", true],
    ["Sun Nov  6 08:49:36 1994", false],
  ];
  expectTable(table, (date) => unmodified({ "if-modified-since": date }));
  expectTable(table, (date) => !fails({ "if-unmodified-since": date }));
});

test("a value that is not an HTTP date is ignored (13.1.3, 13.1.4)", () => {
  const future = [
    "2094",
    "2094-11-06T08:49:37Z",
    "Sun, 06 Nov 2094 08:49:37",
    "Sun, 06 Nov 2094 08:49:37 +0100",
    "Sun, 99 Nov 2094 08:49:37 GMT",
  ];
  for (const date of [...future, "1970", "1", "Thu, 01 Jan 1970 00:00:00", "tomorrow", ""]) {
    expect([date, unmodified({ "if-modified-since": date }), fails({ "if-unmodified-since": date })]).toEqual([
      date,
      false,
      false,
    ]);
  }
});

test("without a condition nothing fails and the whole body is sent", () => {
  expect([fails({}), unmodified({}), range({})]).toEqual([false, false, null]);
});

test("a single range selects its part, or is unsatisfiable (14.1.2)", () => {
  const table: [string, ByteRange | "unsatisfiable" | null][] = [
    ["bytes=0-0", { offset: 0, length: 1 }],
    ["bytes=500-", { offset: 500, length: 500 }],
    ["bytes=500-99999", { offset: 500, length: 500 }],
    ["bytes=999-", { offset: 999, length: 1 }],
    ["bytes=-1", { offset: 999, length: 1 }],
    ["bytes=-99999", { offset: 0, length: 1_000 }],
    ["BYTES=0-0", { offset: 0, length: 1 }],
    ["bytes=1000-", "unsatisfiable"],
    ["bytes=1000-2000", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    [`bytes=${"9".repeat(400)}-`, "unsatisfiable"],
  ];
  expectTable(table, (header) => range({ range: header }));
});

test("a malformed range, another unit, or several ranges select the whole body (14.2)", () => {
  const several = `bytes=${Array.from({ length: 1_000 }, (_, i) => `${i}-${i}`).join(",")}`;
  const malformed = [
    "bytes=5-2",
    "bytes=-",
    "bytes=",
    "bytes",
    "bytes=a-b",
    "bytes=1-2-3",
    "bytes=--1",
    "bytes=0x1-2",
    "items=0-1",
    "0-1",
  ];
  for (const header of [...malformed, "bytes=0-0,2-3", several])
    expect(range({ range: header }), header.slice(0, 20)).toBeNull();
});

test("a range applies to GET only (14.2)", () => {
  for (const method of ["HEAD", "POST", "DELETE"])
    expect(range({ range: "bytes=0-0" }, BYTES, method), method).toBeNull();
});

test("If-Range allows the range only on a strong match (13.1.5)", () => {
  const table: [string, boolean][] = [
    [ETAG, true],
    [`W/${ETAG}`, false],
    ['"x"', false],
    ["*", false],
    [SAME, false],
    ["", false],
  ];
  expectTable(table, (header) => range({ range: "bytes=0-0", "if-range": header }) !== null);
});

test("a selected range lies within the body and is the one requested", () => {
  const number = fc.option(fc.nat({ max: 30 }));
  const property = fc.property(number, number, fc.nat({ max: 20 }), (first, last, bytes) => {
    const given = range({ range: `bytes=${first ?? ""}-${last ?? ""}` }, bytes);
    const all = Array.from({ length: bytes }, (_, i) => i);
    const asked =
      first === null
        ? all.slice(bytes - Math.min(last ?? 0, bytes))
        : all.filter((i) => i >= first && i <= (last ?? bytes));
    const isInvalid = last === null ? first === null : first !== null && last < first;
    const part = asked.length === 0 ? "unsatisfiable" : { offset: asked[0], length: asked.length };
    expect(given).toEqual(isInvalid ? null : part);
  });
  fc.assert(property, { numRuns: 2_000 });
});
