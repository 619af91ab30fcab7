/** What is read out of an origin's own error. */
import { expect, test } from "vitest";
import { complaintOf } from "../../worker/run/complaint.ts";

test.each([
  ['{"detail":[{"loc":["body","prompt"],"msg":"too odd"}]}', "too odd", "prompt"],
  ['{"detail":[{"loc":["body",0],"msg":"too odd"}]}', "too odd", null],
  ['{"detail":"Sampler not found"}', "Sampler not found", null],
  ['{"message":"m","error":"e"}', "m", null],
  ['{"error":"OutOfMemoryError","detail":"","errors":"CUDA out of memory"}', "OutOfMemoryError", null],
  ['{"error":{"message":"nested"}}', "nested", null],
  ['{"errors":"many"}', "many", null],
  ['{"code":7}', '{"code":7}', null],
  ["[1]", "[1]", null],
  ["plain", "plain", null],
  ["7", "7", null],
  ["{}", null, null],
  ["null", "null", null],
  ["", null, null],
  [" \n", null, null],
  ["<html>a page</html>", null, null],
])("%s", (text, message, field) => {
  expect(complaintOf(text)).toEqual({ message, field });
});

test("a message has at most 1,000 characters", () => {
  const long = "x".repeat(3_000);
  for (const text of [long, JSON.stringify({ detail: long }), JSON.stringify({ [long]: 1 })])
    expect(complaintOf(text).message).toHaveLength(1_000);
});
