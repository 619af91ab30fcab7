/** The scan of a submission whose `input` is too large to buffer agrees with JSON.parse, however the body is cut. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ENVELOPE_BYTES_MAX, EnvelopeScan } from "../../worker/body/scan/envelope.ts";

const encode = (text: string) => new TextEncoder().encode(text);

async function scanned(body: Uint8Array, cuts: number[]): Promise<EnvelopeScan> {
  const scan = new EnvelopeScan("input");
  const ends = [...cuts.map((cut) => cut % (body.length + 1)), body.length].toSorted((a, b) => a - b);
  for (const [i, end] of ends.entries()) await scan.push(body.slice(ends[i - 1] ?? 0, end));
  return scan;
}

/** Spellings of one name. */
const INPUT = [`"input"`, String.raw`"\u0069nput"`];
const space = fc.constantFrom("", " ", "\n\t");
const name = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom(...INPUT) },
  fc.string().map((text) => JSON.stringify(text)),
);
const value = fc.oneof(
  fc.json({ maxDepth: 4 }),
  fc.constantFrom(
    String.raw`"a \" , } ] { \\"`,
    `"${"A".repeat(500)}"`,
    "{}",
    "[]",
    "1e5",
    `{"input":{"input":[1,"}"]}}`,
  ),
);
const member = fc.tuple(name, space, space, value, space);

test("the value and everything else are what JSON.parse finds", async () => {
  const property = fc.asyncProperty(fc.array(member, { maxLength: 6 }), fc.array(fc.nat()), async (members, cuts) => {
    const inner = members.map(([key, a, b, given, c]) => `${a}${key}${b}:${given}${c}`).join(",");
    const body = encode(`{${inner}}`);
    const scan = await scanned(body, cuts);
    expect(await scan.end()).toBeNull();
    const parsed = JSON.parse(`{${inner}}`) as Record<string, unknown>;
    const hasInput = Object.hasOwn(parsed, "input");
    expect(scan.value).toEqual(hasInput ? { ...parsed, input: null } : parsed);
    const { offset = 0, length = 0 } = scan.range ?? {};
    const found = new TextDecoder().decode(body.slice(offset, offset + length));
    expect(scan.range === null ? undefined : JSON.parse(found)).toEqual(parsed["input"]);
  });
  await fc.assert(property, { numRuns: 2_000 });
});

test.each(["", "[1]", '{"input":1', '{"input":1}}', '{"input" 1}', "{input:1}", '{"a":1 "input":2}', "null x"])(
  "a broken envelope is refused: %s",
  async (text) => {
    const scan = await scanned(encode(text), []);
    const refusal = await scan.end();
    // What is JSON but no object is for the schema to refuse.
    expect(refusal === null ? scan.value : refusal.reason).toEqual(text === "[1]" ? [1] : "malformed_json");
  },
);

const prioritized = (length: number) => encode(`{"priority":"${"x".repeat(length)}","input":"${"y".repeat(100_000)}"}`);

test("everything but the input is at most 64 KiB", async () => {
  expect(await (await scanned(prioritized(ENVELOPE_BYTES_MAX - 100), [])).end()).toBeNull();
  const scan = await scanned(prioritized(ENVELOPE_BYTES_MAX), []);
  expect([scan.failed, (await scan.end())?.param]).toEqual([true, "body"]);
});
