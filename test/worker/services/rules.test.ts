import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Fields, FormPart } from "../../../worker/body/fields.ts";
import { fieldRefusal } from "../../../worker/services/rules.ts";

const BOUNDS = { width: 2048, text: 5, "nested.count": 3, note: 4 };
const FORBID = ["script_name", "override_settings*", "init_images:url", "nested.secret"];

const json = (value: unknown): Fields => ({ kind: "json", value });
const part = (name: string, value: FormPart["value"]): FormPart => ({ name, filename: null, type: "", value });
const form = (...parts: FormPart[]): Fields => ({ kind: "form", parts });

/** The field that is refused, or null. */
const refused = (fields: Fields): string | null =>
  fieldRefusal(fields, { bounds: BOUNDS, forbid: FORBID })?.param ?? null;

test("a number may be as large as its bound, and no larger", () => {
  const property = fc.property(fc.oneof(fc.integer(), fc.double()), (width) => {
    expect(refused(json({ width }))).toBe(width <= 2048 && Number.isFinite(width) ? null : "width");
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("a text may have as many characters as its bound, however many code units they take", () => {
  const property = fc.property(
    fc.string({ unit: fc.constantFrom("a", " ", "é", "生", "😀", "\u0301"), maxLength: 12 }),
    (text) => {
      expect(refused(json({ text }))).toBe(Array.from(text).length <= 5 ? null : "text");
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});

test("a bounded field of the wrong type is refused, whatever the type", () => {
  for (const wrong of [true, false, [], [1], {}, { a: 1 }]) {
    expect(refused(json({ width: wrong })), JSON.stringify(wrong)).toBe("width");
    expect(refused(json({ text: wrong })), JSON.stringify(wrong)).toBe("text");
  }
  expect(refused(json({ text: 5 }))).toBe("text");
  expect(refused(json({ width: "wide" }))).toBe("width");
});

/** Spellings of a number that some server understands. */
const spellings = fc.integer({ min: 2049, max: 999_999 }).chain((number) => {
  const digits = String(number);
  const arabic = digits.replace(/\d/g, (digit) => String.fromCodePoint(0x660 + Number(digit)));
  const wide = digits.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)));
  const underscored = `${digits.slice(0, 1)}_${digits.slice(1)}`;
  return fc.constantFrom(
    digits,
    ` ${digits} `,
    `+${digits}`,
    `${digits}.0`,
    `${digits}e0`,
    `0x${number.toString(16)}`,
    arabic,
    wide,
    underscored,
  );
});

test("no spelling of a number that is too large passes as a text, in JSON or in a form", () => {
  const property = fc.property(spellings, fc.constantFrom("width", "note"), (spelled, name) => {
    expect(refused(json({ [name]: spelled }))).toBe(name);
    expect(refused(form(part(name, spelled)))).toBe(name);
  });
  fc.assert(property, { numRuns: 500 });
  for (const spelled of ["inf", "-inf", "nan", "Infinity", "1e400"])
    expect(refused(json({ width: spelled })), spelled).toBe("width");
});

test("null and missing fields violate no bound, and null violates no prohibition", () => {
  expect(refused(json({}))).toBeNull();
  expect(
    refused(json({ width: null, text: null, note: null, script_name: null, override_settings: {}, init_images: null })),
  ).toBeNull();
});

test("a bound on a dotted name applies to the member, and never to inherited properties", () => {
  expect(refused(json({ nested: { count: 4 } }))).toBe("nested.count");
  expect(refused(json({ nested: { count: 3 } }))).toBeNull();
  for (const value of [null, 1, "nested", [], { nested: null }, { nested: [4] }])
    expect(refused(json(value))).toBeNull();
  const inherited = {
    bounds: { "constructor.length": 0, "toString.length": 0 },
    forbid: ["__proto__", "hasOwnProperty"],
  };
  expect(fieldRefusal(json({}), inherited)).toBeNull();
  expect(fieldRefusal(json(JSON.parse('{"__proto__":1}')), inherited)?.param).toBe("__proto__");
});

test("a forbidden field may not be given; a forbidden object only if it is empty", () => {
  for (const value of ["x", "", 0, false, [], {}, ["x"]])
    expect(refused(json({ script_name: value })), JSON.stringify(value)).toBe("script_name");
  for (const value of [{ a: 1 }, ["a"], "x", 1])
    expect(refused(json({ override_settings: value })), JSON.stringify(value)).toBe("override_settings");
  expect(refused(json({ override_settings: [] }))).toBeNull();
  expect(refused(json({ nested: { secret: 1 } }))).toBe("nested.secret");
});

test("an image may be given as bytes, and never as a URL, however deep and however spelled", () => {
  const address = fc.tuple(
    fc.constantFrom("", " ", "\n\t"),
    fc.constantFrom("http:", "HTTPS:", "file:", "ftp:", "javascript:", "gopher+x:"),
    fc.constantFrom("//example.com/a.png", "///etc/passwd", "alert(1)"),
  );
  const bytes = fc.constantFrom(
    "iVBORw0KGgo=",
    "data:image/png;base64,iVBORw0KGgo=",
    " DATA:image/png;base64,AA==",
    "",
  );
  const property = fc.property(
    address,
    fc.array(bytes, { maxLength: 3 }),
    fc.nat({ max: 3 }),
    (parts, images, depth) => {
      expect(refused(json({ init_images: images }))).toBeNull();
      let given: unknown = [...images, parts.join("")];
      for (let i = 0; i < depth; i++) given = [given];
      expect(refused(json({ init_images: given }))).toBe("init_images");
    },
  );
  fc.assert(property, { numRuns: 300 });
});

test("every part of a form field is checked, in any order, and a file is neither number nor text", () => {
  const small = part("width", "512");
  const large = part("width", "4096");
  expect(refused(form(small, small))).toBeNull();
  expect(refused(form(small, large))).toBe("width");
  expect(refused(form(large, small))).toBe("width");
  expect(refused(form(part("width", new Uint8Array(3))))).toBe("width");
  expect(refused(form(part("text", new Uint8Array(3))))).toBe("text");
  expect(refused(form(part("script_name", "")))).toBe("script_name");
});
