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

test("the mappings that kinds stand for are ones that an operator could put", () => {
  for (const dialects of Object.values(DIALECTS_BY_KIND)) expect(Dialects.parse(dialects)).toEqual(dialects);
});

test("a table without rows changes nothing but what is null", () => {
  fc.assert(
    fc.property(given, (fields) => {
      expect(fieldsOf(TASK, fields)).toEqual(said(fields));
    }),
  );
});

test("a renamed field stands under its new name alone, whatever else is given", () => {
  fc.assert(
    fc.property(given, field, field, fc.string(), (fields, from, to, value) => {
      const task: Task = { ...TASK, fields: [{ from, to }] };
      const { [from]: _, ...others } = said(fields);
      expect(fieldsOf(task, { ...fields, [from]: value })).toEqual({ ...others, [to]: value });
      expect(nameGiven(task, to, { [from]: value })).toBe(from);
      expect(nameGiven(task, to, null)).toBe(from);
      // Said in the origin's own word, it is named by that.
      expect(nameGiven(task, to, { [to]: value, [from]: null })).toBe(to);
    }),
  );
});

test("fixed values stand whatever is asked", () => {
  fc.assert(
    fc.property(given, given, (fields, fixed) => {
      const task: Task = { ...TASK, fixed, fields: [{ from: "a", to: Object.keys(fixed)[0] ?? "a" }] };
      expect(fieldsOf(task, fields)).toMatchObject(fixed);
    }),
  );
});

test("a size is two numbers; auto is none; anything else is refused by its own name", () => {
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

test("images come as base64 or data URLs, of files and of data URLs alike", () => {
  const bytes = new Uint8Array([1, 2, 3]);
  for (const image of [{ bytes, type: "image/png" }, "data:image/png;base64,AQID"]) {
    expect(fieldsOf(imageTask("base64"), { image })).toEqual({ i: "AQID" });
    expect(fieldsOf(imageTask("data_url"), { image })).toEqual({ i: "data:image/png;base64,AQID" });
  }
  expect(fieldsOf(imageTask("base64"), { image: "https://elsewhere/x.png" })).toEqual({ i: "https://elsewhere/x.png" });
  expect(mapped(imageTask("base64"), { image: 5 })).toEqual({ param: "image", detail: { detail: "image" } });
});

test("a list is one even of a single thing, and holds no more than it may", () => {
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

test("words are translated where the table knows them, nested fields keep their neighbours", () => {
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

test("a pointer leads where RFC 6901 says, and nowhere else", () => {
  const value = { a: [{ "b/c": 1, "d~e": 2 }], "": 3, one: "x" };
  expect(["/a/0/b~1c", "/a/0/d~0e", "/", ""].map((pointer) => at(value, pointer))).toEqual([1, 2, 3, value]);
  expect(["/a/1", "/a/length/x", "/toString", "/__proto__", "/one/0/0"].map((pointer) => at(value, pointer))).toEqual(
    Array(5).fill(undefined),
  );
  expect([listAt(value, "/one"), listAt(value, "/a/0/b~1c"), listAt(value, "/none")]).toEqual([["x"], [1], []]);
});

test("every task has a name in the schema, and no other is taken", () => {
  for (const name of TASKS) expect(Dialects.safeParse({ [name]: TASK }).success).toBe(true);
  expect(Dialects.safeParse({ dream: TASK }).success).toBe(false);
});
