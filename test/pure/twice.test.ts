import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hasDuplicateNames } from "../../worker/body/duplicate-names.ts";
import { expectSame } from "./same.ts";

const twice = (json: string) => hasDuplicateNames(json, JSON.parse(json));
/** Names and texts full of characters that have a meaning outside of them. */
const odd = fc.string({ unit: fc.constantFrom('"', "\\", ":", "{", "}", ",", "a", "\u2028") });

test("JSON in which each name occurs once is never ambiguous, whatever its texts contain", () => {
  const value = fc.object({ key: odd, values: [odd, fc.integer(), fc.boolean(), fc.constant(null)], maxDepth: 3 });
  const property = fc.property(value, fc.nat({ max: 2 }), (made, spaces) => {
    expectSame(twice(JSON.stringify(made, null, spaces)), false);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("a name that occurs twice anywhere is found, however it is written", () => {
  const property = fc.property(odd, odd, fc.nat({ max: 3 }), (name, text, depth) => {
    const said = JSON.stringify(name);
    const object = `{${said}: ${JSON.stringify(text)}, "other": [{}], ${said}: 1}`;
    expectSame(twice(`${"[".repeat(depth)}${object}${"]".repeat(depth)}`), true);
  });
  fc.assert(property, { numRuns: 2_000 });
  expect(twice('{"seed":1,"\\u0073eed":2}')).toBe(true);
  expect(twice('{"__proto__":1,"__proto__":2}')).toBe(true);
  expect(twice('{"a":{"b":1},"c":{"b":1}}')).toBe(false);
});

test("nesting deeper than any stack is searched", () => {
  const deep = `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`;
  expect(hasDuplicateNames(deep, { a: 1 })).toBe(true);
});
