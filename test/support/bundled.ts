/** Builds the Worker once for all tests that start it, and tells them where it lies. */
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";

declare module "vitest" {
  export interface ProvidedContext {
    bundle: string;
  }
}

export default async function setup(project: TestProject): Promise<void> {
  // A folder of its own: a `npm start` beside the tests must not change what they run.
  const { path } = await bundle(undefined, join(ROOT, "dist", "test"));
  project.provide("bundle", path);
}
