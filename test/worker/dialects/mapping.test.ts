import fc from "fast-check";
import { expect, test } from "vitest";
import { DIALECTS_BY_KIND } from "../../../worker/services/kinds.ts";
import { Dialects, listAt, mapped, nameGiven, type Task, TASKS } from "../../../worker/dialects/mapping.ts";
import { at } from "../../../durable-objects/json-pointer.ts";

const TASK: Task = { path: "p", body: "json", fields: [], fixed: {}, results: "/images", formats: ["png"] };
const imageTask = (as: "base64" | "data_url"): Task => ({ ...TASK, fields: [{ from: "image", to: "i", as }] });
const field = fc.stringMatching(/^[a-z][a-z_]{0,8}$/);
const given = fc.dictionary(field, fc.jsonValue());

const fieldsOf = (task: Task, fields: Record<string, unknown>): Record<string, unknown> => {
  const outcome = mapped(task, fields);
  if ("detail" in outcome) throw new Error(outcome.detail.detail);
  return outcome.fields;
};
const said = (fields: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));

test("the implied mappings of all kinds are valid input for an operator", () => {
  for (const dialects of Object.values(DIALECTS_BY_KIND)) expect(Dialects.parse(dialects)).toEqual(dialects);
});

test("a mapping without rows only drops nulls", () => {
  fc.assert(
    fc.property(given, (fields) => {
      expect(fieldsOf(TASK, fields)).toEqual(said(fields));
    }),
  );
});

test("a renamed field appears only under its new name, whatever else is given", () => {
  fc.assert(
    fc.property(given, field, field, fc.string(), (fields, from, to, value) => {
      const task: Task = { ...TASK, fields: [{ from, to }] };
      const { [from]: _, ...others } = said(fields);
      expect(fieldsOf(task, { ...fields, [from]: value })).toEqual({ ...others, [to]: value });
      expect(nameGiven(task, to, { [from]: value })).toBe(from);
      expect(nameGiven(task, to, null)).toBe(from);
      // If the caller used the origin's own name, that name is reported.
      expect(nameGiven(task, to, { [to]: value, [from]: null })).toBe(to);
    }),
  );
});

test("fixed values take precedence over any input", () => {
  fc.assert(
    fc.property(given, given, (fields, fixed) => {
      const task: Task = { ...TASK, fixed, fields: [{ from: "a", to: Object.keys(fixed)[0] ?? "a" }] };
      expect(fieldsOf(task, fields)).toMatchObject(fixed);
    }),
  );
});

test("a size becomes two numbers, auto none, and anything else is refused under the field's name", () => {
  const task: Task = {
    ...TASK,
    fields: [
      { from: "size", to: "w", as: "width", default: 7 },
      { from: "size", to: "h", as: "height" },
    ],
  };
  const side = fc.integer({ min: 1, max: 99_999 });
  fc.assert(
    fc.property(side, side, (w, h) => {
      expect(fieldsOf(task, { size: `${w}x${h}` })).toEqual({ w, h });
    }),
  );
  expect(fieldsOf(task, { size: "auto" })).toEqual({});
  expect(fieldsOf(task, {})).toEqual({ w: 7 });
  const wrong = fc.oneof(
    fc.string(),
    fc.jsonValue(),
    fc.constantFrom("0x1", "1x0", "1x", "1X1", " 1x1", "100000x1", "-1x1"),
  );
  fc.assert(
    fc.property(
      wrong.filter(
        (size) =>
          size !== null && size !== "auto" && !(typeof size === "string" && /^[1-9]\d{0,4}x[1-9]\d{0,4}$/.test(size)),
      ),
      (size) => {
        expect(mapped(task, { size })).toEqual({ param: "size", detail: { detail: "size" } });
      },
    ),
  );
});

test("images from files and data URLs become base64 or data URLs", () => {
  const bytes = new Uint8Array([1, 2, 3]);
  for (const image of [{ bytes, type: "image/png" }, "data:image/png;base64,AQID"]) {
    expect(fieldsOf(imageTask("base64"), { image })).toEqual({ i: "AQID" });
    expect(fieldsOf(imageTask("data_url"), { image })).toEqual({ i: "data:image/png;base64,AQID" });
  }
  expect(fieldsOf(imageTask("base64"), { image: "https://elsewhere/x.png" })).toEqual({ i: "https://elsewhere/x.png" });
  expect(mapped(imageTask("base64"), { image: 5 })).toEqual({ param: "image", detail: { detail: "image" } });
});

test("a single value becomes a list of one, and a list has a maximum length", () => {
  const task: Task = { ...TASK, fields: [{ from: "image", to: "i", as: "base64", list: 2 }] };
  expect(fieldsOf(task, { image: "A" })).toEqual({ i: ["A"] });
  expect(fieldsOf(task, { image: ["A", "B"] })).toEqual({ i: ["A", "B"] });
  expect(mapped(task, { image: ["A", "B", "C"] })).toEqual({
    param: "image",
    detail: { detail: "elements_at_most", max: 2 },
  });
  const file = { bytes: new Uint8Array(1), type: "image/png" };
  const single: Task = { ...TASK, fields: [{ from: "image", to: "i", as: "base64" }] };
  expect(fieldsOf(single, { image: [file] })).toEqual({ i: "AA==" });
  expect(mapped(single, { image: [file, file] })).toEqual({
    param: "image",
    detail: { detail: "elements_at_most", max: 1 },
  });
});

test("listed values are translated, and setting a nested field keeps its siblings", () => {
  const task: Task = {
    ...TASK,
    fields: [
      { from: "voice", to: "who.name", values: { alloy: "anna" } },
      { from: "mask", to: "who.masked", as: "given" },
    ],
  };
  expect(fieldsOf(task, { voice: "alloy", mask: "x", who: { age: 3 } })).toEqual({
    who: { age: 3, name: "anna", masked: 1 },
  });
  for (const voice of ["berta", "toString", 5, true, ["alloy"]])
    expect(fieldsOf(task, { voice })).toEqual({ who: { name: voice } });
});

test("no field reaches an object's prototype", () => {
  const evil = JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}') as object;
  const task: Task = { ...TASK, fields: [{ from: "a", to: "__proto__.polluted" }] };
  const fields = fieldsOf(task, { ...evil, a: 1 });
  expect(({} as { polluted?: number }).polluted).toBeUndefined();
  expect((fields as { polluted?: number }).polluted).toBeUndefined();
});

test("a pointer resolves as RFC 6901 says, and never to inherited members", () => {
  const value = { a: [{ "b/c": 1, "d~e": 2 }], "": 3, one: "x" };
  expect(["/a/0/b~1c", "/a/0/d~0e", "/", ""].map((pointer) => at(value, pointer))).toEqual([1, 2, 3, value]);
  expect(["/a/1", "/a/length/x", "/toString", "/__proto__", "/one/0/0"].map((pointer) => at(value, pointer))).toEqual(
    Array(5).fill(undefined),
  );
  expect([listAt(value, "/one"), listAt(value, "/a/0/b~1c"), listAt(value, "/none")]).toEqual([["x"], [1], []]);
});

test("every task has a name in the schema, and other names are rejected", () => {
  for (const name of TASKS) expect(Dialects.safeParse({ [name]: TASK }).success).toBe(true);
  expect(Dialects.safeParse({ dream: TASK }).success).toBe(false);
});
