/** Counts a finished run the strict way: whatever did not pass has failed, and so has a run without tests. */
import type { TestModule } from "vitest/node";

export interface Counted {
  passed: number;
  failed: number;
}

/** `partial`: somebody chose tests by name, so that those left out are no failure. */
export function count(modules: TestModule[], unhandledErrors: number, partial: boolean): Counted {
  const counted = { passed: 0, failed: unhandledErrors };
  for (const module of modules) {
    // A file that could not be loaded, or a suite whose hook failed, has errors of its own.
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
