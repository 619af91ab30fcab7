/** Counts a finished run strictly: every test that did not pass has failed, and a run without tests has failed. */
import type { TestModule } from "vitest/node";

export interface Counted {
  passed: number;
  failed: number;
}

/** `partial`: tests were selected by name, so skipped ones are not failures. */
export function count(modules: TestModule[], unhandledErrors: number, partial: boolean): Counted {
  const counted = { passed: 0, failed: unhandledErrors };
  for (const module of modules) {
    // A file that could not be loaded, or a suite whose hook failed, has its own errors.
    counted.failed += module.errors().length;
    for (const suite of module.children.allSuites()) counted.failed += suite.errors().length;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") counted.passed += 1;
      else if (state !== "skipped" || !partial) counted.failed += 1;
    }
  }
  if (counted.passed + counted.failed === 0) counted.failed = 1;
  return counted;
}
