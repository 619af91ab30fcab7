import fc from "fast-check";
import stringWidth from "string-width";
import { expect, test } from "vitest";
import { bar } from "../../cli/status-view.ts";
import { aligned, cell } from "../../cli/table.ts";
import { merged, momentAfter, seconds, setting } from "../../cli/values.ts";

const NOW = Date.parse("2027-01-31T10:00:00Z");

test("a time is a span from now, a day in UTC, or a timestamp with its offset", () => {
  expect(momentAfter("90s", NOW)).toBe("2027-01-31T10:01:30.000Z");
  expect(momentAfter("1d", NOW)).toBe("2027-02-01T10:00:00.000Z");
  expect(momentAfter("2027-03-01", NOW)).toBe("2027-03-01T00:00:00.000Z");
  expect(momentAfter("2027-03-01T12:00:00+02:00", NOW)).toBe("2027-03-01T10:00:00.000Z");
  expect(momentAfter("never", NOW)).toBeNull();
  for (const text of ["", "soon", "2027-13-01", "2027-03-01T12:00:00", "1 d", "99999999999999d", "March 1 2027"])
    expect(() => momentAfter(text, NOW), text).toThrow(/Not a time;/);
  expect(["90", "90s", "15m", "12h", "30d"].map(seconds)).toEqual([90, 90, 900, 43_200, 2_592_000]);
  for (const text of ["", "-1", "1.5h", "1w", "h"]) expect(() => seconds(text), text).toThrow(/Not a time span/);
});

test("settings merge into one body, with JSON or text values, and cannot pollute the prototype", () => {
  const body = ["queue.max=500", "queue.timeout_s=7", "model_version=v2", 'forbid=["a"]', "drain.probe=null"].reduce(
    (before: Record<string, unknown> | undefined, text) => setting(text, before),
    undefined,
  );
  expect(body).toEqual({
    queue: { max: 500, timeout_s: 7 },
    model_version: "v2",
    forbid: ["a"],
    drain: { probe: null },
  });
  expect(JSON.stringify(setting("__proto__.polluted=1"))).toBe('{"__proto__":{"polluted":1}}');
  expect(JSON.stringify(merged(JSON.parse('{"__proto__":{"a":1}}'), setting("__proto__.b=2")))).toBe(
    '{"__proto__":{"a":1,"b":2}}',
  );
  expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  for (const text of ["", "=1", "burst"]) expect(() => setting(text), text).toThrow(/Not a setting/);
});

test("table columns are aligned in every line, whatever the cells contain", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.string({ unit: "grapheme" }), { minLength: 3, maxLength: 3 }), { minLength: 1 }),
      (rows) => {
        const cells = rows.map((row) => [...row.map(cell), "|"]);
        const lines = aligned(cells).split("\n");
        expect(lines).toHaveLength(rows.length);
        expect(new Set(lines.map((line) => stringWidth(line))).size).toBe(1);
      },
    ),
  );
});

test("a bar is empty only for zero and full only at capacity", () => {
  fc.assert(
    fc.property(
      fc.nat(1000),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 2, max: 40 }),
      (inUse, capacity, length) => {
        const drawn = bar(inUse, capacity, length);
        const full = drawn.lastIndexOf("█") + 1;
        expect(drawn).toBe("█".repeat(full) + "░".repeat(length - full));
        expect(full === 0).toBe(inUse === 0);
        expect(full === length).toBe(inUse >= capacity);
      },
    ),
  );
  expect(bar(0, 0, 4)).toBe("░░░░");
});
