import * as fc from "fast-check";
import { expect, test } from "vitest";
import { fromBase64 } from "../../../worker/results/media.ts";

test("what was made base64 comes back, with a data: prefix and without", () => {
  const property = fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    const text = bytes.toBase64();
    expect(fromBase64(text)).toEqual(new Uint8Array(bytes));
    expect(fromBase64(`data:image/png;base64,${text}`)).toEqual(new Uint8Array(bytes));
  });
  fc.assert(property, { numRuns: 300 });
});

test("what is no base64 is nothing", () => {
  for (const text of [
    "!",
    "a",
    "=",
    "AA=A",
    "data:image/png;base64",
    "data:image/png;base64,!",
    "https://example.com/a.png",
    "é",
  ]) {
    expect(fromBase64(text), text).toBeNull();
  }
});
