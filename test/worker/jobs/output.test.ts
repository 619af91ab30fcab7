/** What is kept of an origin's JSON answer as a job's output. */
import { expect, test } from "vitest";
import { withoutImages } from "../../../worker/jobs/output.ts";

const outputOf = (json: string, type = "application/json") => withoutImages(new TextEncoder().encode(json), type);
/** Deeper than any stack reaches. */
const DEEP = 200_000;

test("images are taken out, all else is kept", () => {
  const image = "iVBORw0KGgo".repeat(50);
  expect(outputOf(JSON.stringify({ images: [image], info: "seed 1" }))).toBe('{"info":"seed 1"}');
  expect(outputOf(JSON.stringify({ images: ["small"], image: 7 }))).toBe('{"images":["small"],"image":7}');
  expect(outputOf("[1]")).toBe("[1]");
});

test.each([
  ["not JSON", "{"],
  ["nested too deep for the stack", `{"images":${"[".repeat(DEEP)}${"]".repeat(DEEP)}}`],
])("an answer that is %s has no output", (_, json) => {
  expect(outputOf(json)).toBeNull();
});

test("an answer of another type has no output", () => {
  expect([outputOf("{}", "text/plain"), withoutImages(null, "application/json")]).toEqual([null, null]);
});
