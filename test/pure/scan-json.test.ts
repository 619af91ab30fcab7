/** The streaming check of large bodies gives the same result as the check of small bodies that are in memory. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parseFields } from "../../worker/body/fields.ts";
import { isRefusal, type Refusal } from "../../worker/refusal.ts";
import { fieldRefusal, rulesOf } from "../../worker/services/rules.ts";
import { JsonScan } from "../../worker/body/scan/json.ts";
import type { Service } from "../../worker/services/service.ts";
import { detailText } from "../../worker/details.ts";

const RULES: Pick<Service, "bounds" | "forbid"> = {
  bounds: {
    width: 2048,
    text: 5,
    "nested.count": 3,
    note: 4,
    "": 2,
    "list.1": 7,
    "list.length": 3,
    "nested.deep.er": 1,
  },
  forbid: [
    "script_name",
    "override_settings*",
    "init_images:url",
    "nested.secret",
    "nested.init_images:url",
    "script*",
  ],
};
const KEEP = ["batch_size"];

/** Scans the bytes in pieces that end at `cuts`. */
async function scanned(bytes: Uint8Array, cuts: number[], rules = RULES) {
  const scan = new JsonScan(rulesOf(rules), KEEP);
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
  let at = 0;
  for (const end of ends) {
    await scan.push(bytes.slice(at, end));
    at = end;
  }
  return { refusal: await scan.end(), failed: scan.failed, kept: scan.kept };
}

/** The result of the check for a body in memory. */
async function whole(bytes: Uint8Array<ArrayBuffer>, rules = RULES): Promise<Refusal | null> {
  const fields = await parseFields(bytes, "application/json", "application/json");
  return isRefusal(fields) || fields === null ? fields : fieldRefusal(fields, rules);
}

/** Removes the parsers' own texts for malformed JSON, which differ. */
function said(refusal: Refusal | null): unknown {
  if (refusal?.reason === "malformed_json") return { reason: refusal.reason, param: refusal.param };
  return refusal;
}

const cuts = fc.array(fc.nat(), { maxLength: 12 });
const NAMES = ["width", "text", "nested", "note", "list", "script_name", "override_settings", "init_images", "script"];
const name = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...NAMES, "count", "secret", "deep", "er", "length", "1", "", "batch_size") },
  fc.string({ maxLength: 4 }),
);
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false, 0, 1, 3, 4, 5, 2048, 2049, -1, 1e308, "", "4", " 9 ", "1e9", "４", "nan"),
    fc.constantFrom(
      "http://a/b",
      " FILE:///x",
      "data:image/png;base64,AA",
      "iVBORw0KGgo=",
      "abcde",
      "abcdef",
      "😀😀😀😀😀",
    ),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: "binary", maxLength: 8 }),
    fc.array(tie("any"), { maxLength: 4 }),
    fc.dictionary(name, tie("any"), { maxKeys: 5 }),
  ),
})).any;
const body = fc.oneof({ weight: 5, arbitrary: fc.dictionary(name, value, { maxKeys: 6 }) }, value);

test("JSON scanned in pieces is refused exactly when the whole is, and with the same refusal", async () => {
  let refused = 0;
  const property = fc.asyncProperty(body, cuts, fc.constantFrom(0, 2), async (json, where, indent) => {
    const bytes = new TextEncoder().encode(JSON.stringify(json, null, indent));
    const expected = await whole(bytes);
    refused += expected === null ? 0 : 1;
    const { refusal, failed } = await scanned(bytes, where);
    expect(refusal).toEqual(expected);
    expect(failed).toBe(expected !== null);
  });
  await fc.assert(property, { numRuns: 3_000 });
  // The test says something only if many random values break a rule and many do not.
  expect(refused).toBeGreaterThan(500);
  expect(refused).toBeLessThan(2_900);
});

test("text that is not JSON is malformed in pieces exactly when it is as a whole", async () => {
  const ODD = Array.from('{}[],:"\\ \n\t\u00010123456789.eE+-truefalsn/').concat("\u00e9", "\ud83d\ude00", "\ufeff");
  const spoiled = fc
    .tuple(body, fc.array(fc.tuple(fc.nat(), fc.constantFrom(...ODD), fc.boolean()), { minLength: 1, maxLength: 3 }))
    .map(([json, changes]) =>
      changes.reduce((text, [where, odd, cut]) => {
        const at = where % (text.length + 1);
        return text.slice(0, at) + (cut ? "" : odd) + text.slice(cut ? at + 1 : at);
      }, JSON.stringify(json)),
    );
  let malformed = 0;
  const property = fc.asyncProperty(spoiled, cuts, async (text, where) => {
    const bytes = new TextEncoder().encode(text);
    const expected = await whole(bytes);
    malformed += expected?.reason === "malformed_json" ? 1 : 0;
    const { refusal } = await scanned(bytes, where);
    // The parser knows only the last value of a repeated name.
    const twice = expected?.reason !== "malformed_json" && refusal?.reason === "invalid_field";
    if (!twice || expected !== null) expect(refusal === null).toBe(expected === null);
    expect(refusal?.reason === "malformed_json").toBe(expected?.reason === "malformed_json");
  });
  await fc.assert(property, { numRuns: 3_000 });
  expect(malformed).toBeGreaterThan(500);
});

test("bytes that are not UTF-8 are refused wherever they are split", async () => {
  const bytes = fc.uint8Array({ maxLength: 12 }).map((middle) => {
    const encoded = new TextEncoder().encode('{"text":"');
    return new Uint8Array([...encoded, ...middle, 0x22, 0x7d]);
  });
  const property = fc.asyncProperty(bytes, cuts, async (given, where) => {
    expect(said((await scanned(given, where)).refusal)).toEqual(said(await whole(given)));
  });
  await fc.assert(property, { numRuns: 1_000 });
});

const scan = (text: string, rules = RULES) => scanned(new TextEncoder().encode(text), [], rules);

test("every value of a repeated name is checked, and names written with escapes are recognized", async () => {
  expect((await scan('{"width":4096,"width":512}')).refusal?.param).toBe("width");
  expect((await scan('{"width":512,"width":4096}')).refusal?.param).toBe("width");
  expect((await scan('{"nested":{"secret":1},"nested":{}}')).refusal?.param).toBe("nested.secret");
  expect((await scan('{"w\\u0069dth":4096}')).refusal?.param).toBe("width");
  expect((await scan('{"width":512,"width":513}')).refusal).toBeNull();
});

test("a URL in a list counts for a rule about the list and for a rule about its member", async () => {
  const rules = { bounds: {}, forbid: ["images:url", "images.1:url"] };
  expect((await scan('{"images":["x",["http://a/"]]}', rules)).refusal?.param).toBe("images");
  const member = { bounds: {}, forbid: ["images.1:url"] };
  expect((await scan('{"images":["x",["http://a/"]]}', member)).refusal?.param).toBe("images.1");
  expect((await scan('{"images":["http://a/",["x"]]}', member)).refusal).toBeNull();
});

test("the last value of a repeated member is kept, as a parser does", async () => {
  expect((await scan('{"batch_size":4,"nested":{"batch_size":9},"batch_size":2}')).kept).toEqual({ batch_size: 2 });
});

test("a text too long to keep is judged by its length, its start, and what follows leading whitespace", async () => {
  const rules = { bounds: { text: 100_000, note: 100_000 }, forbid: ["init_images:url"] };
  const refused = async (json: unknown) => {
    const { refusal } = await scan(JSON.stringify(json), rules);
    return refusal === null ? null : detailText(refusal.facts, "en");
  };
  expect(await refused({ text: "é".repeat(100_000) })).toBeNull();
  expect(await refused({ text: "é".repeat(100_001) })).toBe("must have at most 100000 characters");
  expect(await refused({ text: "😀".repeat(100_000) })).toBeNull();
  expect(await refused({ text: "😀".repeat(100_001) })).toBe("must have at most 100000 characters");
  expect(await refused({ note: "ab ".repeat(30_000) })).toBeNull();
  expect(await refused({ note: "1".repeat(90_000) })).toBe("must be a number");
  expect(await refused({ note: `${" ".repeat(90_000)}4096` })).toBe("must be a number");
  expect(await refused({ init_images: ["A".repeat(300_000)] })).toBeNull();
  expect(await refused({ init_images: [`data:image/png;base64,${"A".repeat(300_000)}`] })).toBeNull();
  expect(await refused({ init_images: [`http://x/${"A".repeat(300_000)}`] })).toBe(
    "must not be a URL: this service allows only data: URLs here",
  );
  expect(await refused({ init_images: [`${" ".repeat(300_000)}http://x/`] })).toBe(
    "must not be a URL: this service allows only data: URLs here",
  );
});

test("a number too long to keep is too large, and one that no rule is about is ignored", async () => {
  expect((await scan(`{"width":1${"0".repeat(2_000)}}`)).refusal?.facts).toEqual({ detail: "at_most", max: 2048 });
  expect((await scan(`{"width":0.${"0".repeat(2_000)}1}`)).refusal?.param).toBe("width");
  expect((await scan(`{"other":1${"0".repeat(2_000)}}`)).refusal).toBeNull();
});

const deep = (levels: number) => scan(`${"[".repeat(levels)}${"]".repeat(levels)}`);

test("nesting is limited to 1,024 levels", async () => {
  expect((await deep(1_024)).refusal).toBeNull();
  expect((await deep(1_025)).refusal).toMatchObject({
    reason: "malformed_json",
    facts: { detail: "too_deep", max: 1_024 },
  });
  expect((await deep(100_000)).refusal?.reason).toBe("malformed_json");
});
