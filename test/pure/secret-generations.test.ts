import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FIRST, rotated, signing } from "../../durable-objects/secret-generations.ts";

const DAY_MS = 86_400_000;

test("the latest secret signs first; earlier ones sign for a day after they were replaced, four in all at most", () => {
  const pauses = fc.array(fc.integer({ min: 0, max: 2 * DAY_MS }), { maxLength: 20 });
  fc.assert(
    fc.property(pauses, fc.integer({ min: 0, max: 2 * DAY_MS }), (waits, rest) => {
      let [generations, now] = [FIRST, 1_790_000_000_000];
      /** When each generation was replaced. */
      const replaced = new Map<number, number>();
      for (const wait of waits) {
        now += wait;
        replaced.set(generations.latest, now);
        generations = rotated(generations, now);
      }
      now += rest;
      const latest = waits.length + 1;
      const earlier = [...replaced].filter(([, at]) => now < at + DAY_MS).map(([generation]) => generation);
      expect(signing(generations, now)).toEqual([latest, ...earlier.toReversed().slice(0, 3)]);
    }),
  );
});
