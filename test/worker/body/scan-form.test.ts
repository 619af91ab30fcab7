/** The streaming check of large forms gives the same result as the check of small ones, which the platform parses. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { MULTIPART, parseFields, URLENCODED } from "../../../worker/body/fields.ts";
import { isRefusal, type Refusal } from "../../../worker/refusal.ts";
import { fieldRefusal, LongText, rulesOf } from "../../../worker/services/rules.ts";
import { scanOf } from "../../../worker/body/scan/scan.ts";

const RULES = {
  bounds: { width: 2048, text: 5, note: 4, "two words": 3, ü: 2, "": 1 },
  forbid: ["script_name", "override_settings*", "image:url", "script*"],
};
const encode = (text: string) => new Uint8Array(new TextEncoder().encode(text));
const BOUNDARY = "----b0";
const MULTIPART_TYPE = `${MULTIPART}; boundary=${BOUNDARY}`;

async function scanned(bytes: Uint8Array, contentType: string, cuts: number[] = []): Promise<Refusal | null> {
  const scan = scanOf(contentType.split(";")[0] ?? "", contentType, rulesOf(RULES), []);
  if (scan === null) throw new Error("not a form");
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
  let at = 0;
  for (const end of ends) {
    await scan.push(bytes.slice(at, end));
    at = end;
  }
  return scan.end();
}

async function whole(bytes: Uint8Array<ArrayBuffer>, contentType: string): Promise<Refusal | null> {
  const fields = await parseFields(bytes, contentType.split(";")[0] ?? "", contentType);
  return isRefusal(fields) || fields === null ? fields : fieldRefusal(fields, RULES);
}

const cuts = fc.array(fc.nat(), { maxLength: 12 });
const name = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(...Object.keys(RULES.bounds), "script_name", "override_settings", "image") },
  fc.string({ unit: "binary", maxLength: 4 }),
);
const text = fc.oneof(
  fc.constantFrom(
    "",
    "4",
    "2049",
    "2048",
    " 9",
    "inf",
    "http://x/",
    "data:image/png;base64,AA",
    "abcde",
    "abcdef",
    "😀😀😀😀😀",
  ),
  fc.string({ unit: "binary", maxLength: 8 }),
);

test("a urlencoded form in pieces is refused exactly when the whole is, and with the same refusal", async () => {
  const loose = fc.string({ unit: fc.constantFrom("a", "b", "=", "&", "+", "%", "2", "f", "F", "5", "é") });
  const pair = fc.tuple(name, text).map(([key, given]) => new URLSearchParams([[key, given]]).toString());
  // Malformed escapes decode to nothing, so a name in a rule may be preceded by any number of them.
  const padded = fc.tuple(fc.nat({ max: 3_000 }), pair).map(([length, each]) => "%".repeat(length) + each);
  const form = fc
    .array(fc.oneof({ weight: 3, arbitrary: pair }, loose, padded), { maxLength: 6 })
    .map((each) => each.join("&"));
  let refused = 0;
  const property = fc.asyncProperty(form, cuts, async (body, where) => {
    const bytes = encode(body);
    const expected = await whole(bytes, URLENCODED);
    refused += expected === null ? 0 : 1;
    expect(await scanned(bytes, URLENCODED, where)).toEqual(expected);
  });
  await fc.assert(property, { numRuns: 2_000 });
  expect(refused).toBeGreaterThan(200);
});

/** One part, with line ends, quotes and heads as clients write them, and as they do not. */
const part = fc.record({
  name: name.map((each) => each.replaceAll(/[\r\n"\\]/g, "_")),
  filename: fc.constantFrom(null, null, "a.txt", ""),
  type: fc.constantFrom(null, "text/plain", "application/octet-stream"),
  value: fc.oneof(
    { weight: 2, arbitrary: text },
    fc.string({
      unit: fc.constantFrom("\r", "\n", "-", "b", "0", `--${BOUNDARY}`, `\n--${BOUNDARY}`, "ab"),
      maxLength: 6,
    }),
  ),
  end: fc.constantFrom("\r\n", "\r\n", "\r\n", "\n"),
});
const multipart = fc
  .tuple(fc.array(part, { maxLength: 4 }), fc.constantFrom("--\r\n", "--\r\n", "--", "", "--\r\nepilogue"))
  .map(([parts, last]) => {
    const said = parts.map(({ name: key, filename, type, value, end }) => {
      const file = filename === null ? "" : `; filename="${filename}"`;
      const head = `Content-Disposition: form-data; name="${key}"${file}${type === null ? "" : `${end}Content-Type: ${type}`}`;
      return `--${BOUNDARY}${end}${head}${end}${end}${value}${end}`;
    });
    return `${said.join("")}--${BOUNDARY}${last}`;
  });

test("a multipart form in pieces is refused exactly when the whole is, and with the same refusal", async () => {
  let refused = 0;
  let passed = 0;
  const property = fc.asyncProperty(multipart, cuts, async (body, where) => {
    const bytes = encode(body);
    const expected = await whole(bytes, MULTIPART_TYPE);
    if (expected === null) passed += 1;
    else refused += 1;
    expect(await scanned(bytes, MULTIPART_TYPE, where)).toEqual(expected);
  });
  await fc.assert(property, { numRuns: 2_000 });
  expect(Math.min(refused, passed)).toBeGreaterThan(300);
});

test("a damaged form that is refused as a whole never passes in pieces", async () => {
  const spoiled = fc
    .tuple(
      multipart,
      fc.array(fc.tuple(fc.nat(), fc.constantFrom("", "\r", "\n", "-", ";", '"', "x")), { maxLength: 3 }),
    )
    .map(([body, changes]) =>
      changes.reduce((now, [where, odd]) => {
        const at = where % (now.length + 1);
        return now.slice(0, at) + odd + now.slice(at + (odd === "" ? 1 : 0));
      }, body),
    );
  const property = fc.asyncProperty(spoiled, cuts, async (body, where) => {
    const bytes = encode(body);
    const expected = await whole(bytes, MULTIPART_TYPE);
    const said = await scanned(bytes, MULTIPART_TYPE, where);
    if (expected !== null) expect(said).not.toBeNull();
    // In addition, a large form is refused for content before its first boundary.
    if (body.startsWith(`--${BOUNDARY}`)) expect(said).toEqual(expected);
  });
  await fc.assert(property, { numRuns: 3_000 });
});

/** The texts kept while the form is scanned in pieces, and the texts that the platform finds in it. */
async function keptOf(bytes: Uint8Array<ArrayBuffer>, contentType: string, where: number[], keep: string[]) {
  const mediaType = contentType.split(";")[0] ?? "";
  const scan = scanOf(mediaType, contentType, [], keep);
  const ends = [...where.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
  for (const [i, end] of ends.entries()) await scan?.push(bytes.slice(ends[i - 1] ?? 0, end));
  const fields = await parseFields(bytes, mediaType, contentType);
  if (fields === null || isRefusal(fields) || fields.kind !== "form" || (await scan?.end()) !== null) return null;
  const texts = (field: string) =>
    fields.parts.filter((each) => each.name === field && typeof each.value === "string").map((each) => each.value);
  return { kept: scan?.kept, expected: Object.fromEntries(keep.map((field) => [field, texts(field)])) };
}

test("a form in pieces keeps the same texts, in the same order, as the platform finds, and no files", async () => {
  let compared = 0;
  const keep = fc.uniqueArray(fc.constantFrom("text", "width", "script_name", "constructor"), { maxLength: 3 });
  const property = fc.asyncProperty(multipart, cuts, keep, async (body, where, names) => {
    const both = await keptOf(encode(body), MULTIPART_TYPE, where, names);
    if (both === null) return;
    compared += names.length;
    expect(both.kept).toEqual(both.expected);
  });
  await fc.assert(property, { numRuns: 1_000 });
  expect(compared).toBeGreaterThan(300);
  const pairs = encode("text=a&width=1&text=%F0%9F%98%80b&other=x");
  const both = await keptOf(pairs, URLENCODED, [7, 22], ["text", "width", "missing"]);
  expect(both?.kept).toEqual({ text: ["a", "😀b"], width: ["1"], missing: [] });
});

test("of a long text only its length is kept", async () => {
  const scan = scanOf(URLENCODED, URLENCODED, [], ["text"]);
  await scan?.push(encode(`text=${"😀".repeat(1_000)}&text=${"a".repeat(100_000)}`));
  expect(await scan?.end()).toBeNull();
  expect(scan?.kept).toEqual({ text: [new LongText("", 1_000), new LongText("", 100_000)] });
});

const parts = (count: number) =>
  encode(
    `${`--${BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n`.repeat(count)}--${BOUNDARY}--\r\n`,
  );

test("a form has at most 1000 parts, in pieces too", async () => {
  for (const count of [1_000, 1_001]) {
    const bytes = parts(count);
    expect(await scanned(bytes, MULTIPART_TYPE)).toEqual(await whole(bytes, MULTIPART_TYPE));
    const pairs = encode("a=1&".repeat(count));
    expect(await scanned(pairs, URLENCODED)).toEqual(await whole(pairs, URLENCODED));
  }
  expect(await scanned(parts(1_001), MULTIPART_TYPE)).toMatchObject({ facts: { detail: "parts_at_most", max: 1_000 } });
});

test("the content type's parameters are read as the platform reads them", async () => {
  const body = parts(1);
  const types = [
    `${MULTIPART}; boundary="${BOUNDARY}"`,
    `${MULTIPART};charset=utf-8;boundary=${BOUNDARY}`,
    `${MULTIPART}; Boundary=${BOUNDARY}`,
    `${MULTIPART}; boundary=other`,
    `${MULTIPART}; boundary=${BOUNDARY}; boundary=other`,
    `${MULTIPART}; boundary=other; boundary=${BOUNDARY}`,
    `${MULTIPART}; boundary=`,
    MULTIPART,
  ];
  for (const type of types) expect([type, await scanned(body, type)]).toEqual([type, await whole(body, type)]);
  const pairs = encode("width=4096");
  for (const type of [`${URLENCODED}; charset=utf-8`, `${URLENCODED}; charset=gbk`])
    expect([type, await scanned(pairs, type)]).toEqual([type, await whole(pairs, type)]);
});

test("a part's head has a size limit", async () => {
  const head = `Content-Disposition: form-data; name="a"\r\nX-More: ${"x".repeat(20_000)}`;
  const body = encode(`--${BOUNDARY}\r\n${head}\r\n\r\n1\r\n--${BOUNDARY}--\r\n`);
  expect(await scanned(body, MULTIPART_TYPE)).toMatchObject({ facts: { detail: "form" } });
});
