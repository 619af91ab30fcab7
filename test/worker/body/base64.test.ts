import * as fc from "fast-check";
import { expect, test } from "vitest";
import { fromBase64 } from "../../../worker/results/media.ts";

test("base64 is decoded to the original bytes, with and without a data: prefix", () => {
  const property = fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    const text = bytes.toBase64();
    expect(fromBase64(text)).toEqual(new Uint8Array(bytes));
    expect(fromBase64(`data:image/png;base64,${text}`)).toEqual(new Uint8Array(bytes));
  });
  fc.assert(property, { numRuns: 300 });
});

test("text that is not base64 gives null", () => {
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
