/** The cost of a request before it runs. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Fields, FormPart } from "../../../worker/body/fields.ts";
import { completeService } from "../../../worker/services/kinds.ts";
import { countsOf } from "../../../worker/caller/price.ts";
import { LongText } from "../../../worker/services/rules.ts";
import type { Kind, ServicePut } from "../../../worker/services/service.ts";

const PIXELS = { product: ["width", "height", "steps"], per: 1_048_576, hits: false };
const TEXT = { characters: ["text", "tts_text"], per: 100, hits: false };

const json = (value: unknown): Fields => ({ kind: "json", value });
const part = (name: string, value: FormPart["value"]): FormPart => ({ name, filename: null, type: "", value });
const form = (...parts: FormPart[]): Fields => ({ kind: "form", parts });

interface Asked {
  kind?: Kind;
  as?: "run" | "read";
  query?: string;
}

function counts(put: ServicePut, fields: Fields | null, { kind = "image", as = "run", query = "" }: Asked = {}) {
  const config = completeService({ ...put, kind, route: "/x/" }, null);
  const service = { id: "x", route: "/x/", config, paused: false, version: 1, createdAt: 0 };
  return countsOf({ service, as, fields, query });
}

const cost = (put: ServicePut, fields: Fields | null, asked: Asked = {}) => counts(put, fields, asked).costMilli;

test("without a price a result or an `http` run costs one unit, and a read nothing", () => {
  expect(counts({}, json({}))).toEqual({ results: 1, costMilli: 1_000 });
  expect(counts({}, json({ batch_size: 3, n_iter: 2 }))).toEqual({ results: 6, costMilli: 6_000 });
  expect(counts({ defaults: { batch_size: 2 } }, json({ n_iter: 2 }))).toEqual({ results: 4, costMilli: 4_000 });
  expect(counts({}, form(part("text", "a")), { kind: "tts" })).toEqual({ results: 1, costMilli: 1_000 });
  expect(counts({}, null, { kind: "http" })).toEqual({ results: 0, costMilli: 1_000 });
  expect(counts({}, null, { as: "read" })).toEqual({ results: 0, costMilli: 0 });
});

test("a service stored before prices existed has the default price", () => {
  const config = completeService({ kind: "image", route: "/x/" }, null);
  const { price: _, ...old } = config;
  const service = { id: "x", route: "/x/", config: old as typeof config, paused: false, version: 1, createdAt: 0 };
  expect(countsOf({ service, as: "run", fields: json({}), query: "" }).costMilli).toBe(1_000);
});

test("a product price multiplies the fields and the number of images, with the service's defaults, else 1", () => {
  const put = { price: PIXELS };
  expect(cost(put, json({ width: 1024, height: 1024, steps: 20 }))).toBe(20_000);
  expect(cost(put, json({ width: 1024, height: 1024, steps: 20, batch_size: 2, n_iter: 2 }))).toBe(80_000);
  expect(cost({ ...put, defaults: { width: 512, height: 512, steps: 8 } }, json({ width: 1024 }))).toBe(4_000);
  expect(cost({ price: { ...PIXELS, per: 1 } }, json({ width: 2, height: 3 }))).toBe(6_000);
  expect(cost({ price: { ...PIXELS, per: 1 } }, null)).toBe(1_000);
});

test("values that are not numbers above 0 count as not given, so that they cannot lower the price", () => {
  const put = { price: { product: ["steps"], per: 1, hits: false }, defaults: { steps: 5 }, bounds: {} };
  const odd: unknown[] = [0, -7, null, "", "many", true, [], {}, { valueOf: 1, toString: 1 }, [[9]], "-3"];
  for (const steps of odd) expect(cost(put, json({ steps })), JSON.stringify(steps)).toBe(5_000);
  expect(cost(put, json({ steps: "7" }))).toBe(7_000);
});

test("of all values that an origin may read, including the query, the largest counts", () => {
  const put = { price: { product: ["steps"], per: 1, hits: false }, bounds: {} };
  const doubled = form(part("steps", "3"), part("steps", "9"), part("steps", new Uint8Array(4)));
  expect(cost(put, doubled, { kind: "tts" })).toBe(9_000);
  expect(cost(put, json({ steps: [2, 8, 4] }))).toBe(8_000);
  expect(cost(put, json({ steps: 2 }), { query: "?steps=11&steps=3" })).toBe(11_000);
});

test("characters of all texts are added up, each counted once however many code units it has", () => {
  const put = { price: TEXT };
  const tts: Asked = { kind: "tts" };
  expect(cost(put, json({ text: "😀".repeat(50), tts_text: "生".repeat(200) }), tts)).toBe(2_500);
  expect(cost(put, form(part("tts_text", "a".repeat(10)), part("other", "b")), tts)).toBe(100);
  expect(cost(put, form(part("text", "a"), part("text", "bcd")), tts)).toBe(40);
  expect(cost(put, json({ text: [new LongText("", 70_000), "abc"] }), tts)).toBe(700_030);
  expect(cost({ ...put, defaults: { text: "12345" } }, json({ tts_text: 5 }), tts)).toBe(50);
  expect(cost(put, json({}), { ...tts, query: "?text=abcd" })).toBe(40);
});

test("a cost is a whole number of thousandths, at least 0 and at most a million units", () => {
  const number = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(1e308, 5e-324, Infinity, 0.1, 0.3));
  const value = fc.oneof(number, number.map(String), fc.string(), fc.constantFrom(null, true));
  const property = fc.property(
    fc.record({ width: value, height: value, steps: value, batch_size: value }),
    fc.double({ min: 1e-9, max: 1e12, noNaN: true }),
    fc.constantFrom("product", "characters"),
    (fields, per, how) => {
      const price = how === "product" ? { ...PIXELS, per } : { ...TEXT, characters: ["steps"], per };
      const { results, costMilli } = counts({ price, bounds: {} }, json(fields));
      expect([Number.isSafeInteger(results), Number.isSafeInteger(costMilli)]).toEqual([true, true]);
      expect(results >= 1 && results <= 1e6 && costMilli >= 0 && costMilli <= 1e9).toBe(true);
    },
  );
  fc.assert(property, { numRuns: 2_000 });
});
