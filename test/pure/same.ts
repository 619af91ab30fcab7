import { expect } from "vitest";

/** Like `toEqual`, for values compared millions of times: the assertion is made only if they differ. */
export function expectSame(actual: unknown, expected: unknown, what = ""): void {
  if (Object.is(actual, expected) || JSON.stringify(actual) === JSON.stringify(expected)) return;
  expect(actual, what).toEqual(expected);
}

/** Like `toBe(true)`, in the same way. */
export function expectThat(holds: boolean, what: string): void {
  if (!holds) expect(holds, what).toBe(true);
}
