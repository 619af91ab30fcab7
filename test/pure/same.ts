import { expect } from "vitest";

/** As `toEqual`, for what is compared a million times: the assertion is made only where the two differ. */
export function expectSame(actual: unknown, expected: unknown, what = ""): void {
  if (Object.is(actual, expected) || JSON.stringify(actual) === JSON.stringify(expected)) return;
  expect(actual, what).toEqual(expected);
}

/** As `toBe(true)`, likewise. */
export function expectThat(holds: boolean, what: string): void {
  if (!holds) expect(holds, what).toBe(true);
}
