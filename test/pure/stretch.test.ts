import fc from "fast-check";
import { expect, test } from "vitest";
import { type Page, stretch } from "../../worker/results/stretch.ts";

const keys = fc.uniqueArray(fc.stringMatching(/^[a-d]{1,4}$/), { maxLength: 40 }).map((some) => some.toSorted());

function pageOf(all: string[], after: string, limit: number): Page<{ key: string }> {
  const rest = all.filter((key) => key > after);
  return { items: rest.slice(0, limit).map((key) => ({ key })), more: rest.length > limit };
}

test("every key that is on one side only is found exactly once, whatever the page lengths", () => {
  fc.assert(
    fc.property(keys, keys, fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }), (ls, rs, l, r) => {
      const [left, right]: string[][] = [[], []];
      let compared = 0;
      for (let after: string | null = ""; after !== null;) {
        const found: ReturnType<typeof stretch> = stretch(pageOf(ls, after, l), pageOf(rs, after, r));
        left?.push(...found.left.map(({ key }) => key));
        right?.push(...found.right.map(({ key }) => key));
        compared += found.compared;
        if (found.next !== null) expect(found.next > after).toBe(true);
        after = found.next;
      }
      expect(left).toEqual(ls.filter((key) => !rs.includes(key)));
      expect(right).toEqual(rs.filter((key) => !ls.includes(key)));
      expect(compared).toBe(new Set([...ls, ...rs]).size);
    }),
  );
});

test("a full page that says there is more loses nothing at its end", () => {
  const full = { items: [{ key: "b" }], more: true };
  expect(stretch(full, { items: [{ key: "a" }, { key: "c" }], more: false })).toEqual({
    left: [{ key: "b" }],
    right: [{ key: "a" }],
    compared: 2,
    next: "b",
  });
});
