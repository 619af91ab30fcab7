import { expect, test } from "vitest";
import type { TestModule } from "vitest/node";
import { count } from "../support/count.ts";

type State = "passed" | "failed" | "skipped" | "pending";

const errorsOf = (n: number) => Array.from({ length: n }, () => ({ message: "it broke" }));

/** A module as the runner reports it, reduced to what count() reads. */
function module(states: State[], { errors = 0, suiteErrors = 0 } = {}): TestModule {
  const it = {
    errors: () => errorsOf(errors),
    children: {
      allTests: () => states.map((state) => ({ result: () => ({ state }) })),
      allSuites: () => [{ errors: () => errorsOf(suiteErrors) }],
    },
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the runner's own class cannot be made by hand
  return it as unknown as TestModule;
}

test("passed and failed tests are counted over all files", () => {
  expect(count([module(["passed", "failed"]), module(["passed"])], 0, false)).toEqual({ passed: 2, failed: 1 });
});

test("a file that cannot be loaded counts as a failure", () => {
  expect(count([module(["passed"]), module([], { errors: 1 })], 0, false)).toEqual({ passed: 1, failed: 1 });
});

test("a suite with a failed hook counts as a failure, besides its tests", () => {
  expect(count([module(["passed"], { suiteErrors: 1 })], 0, false)).toEqual({ passed: 1, failed: 1 });
});

test("an error outside any test counts as a failure", () => {
  expect(count([module(["passed"])], 2, false)).toEqual({ passed: 1, failed: 2 });
});

test("a run without tests counts as a failure", () => {
  expect(count([], 0, false)).toEqual({ passed: 0, failed: 1 });
  expect(count([module([])], 0, true)).toEqual({ passed: 0, failed: 1 });
});

test("a skipped test counts as a failure, unless tests were chosen by name", () => {
  expect(count([module(["passed", "skipped"])], 0, false)).toEqual({ passed: 1, failed: 1 });
  expect(count([module(["passed", "skipped"])], 0, true)).toEqual({ passed: 1, failed: 0 });
});

test("a test that never ended counts as a failure, even if tests were chosen by name", () => {
  expect(count([module(["passed", "pending"])], 0, true)).toEqual({ passed: 1, failed: 1 });
});
