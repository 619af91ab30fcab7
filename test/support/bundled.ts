/** Builds the Worker once for all tests that start it, and provides the path of the bundle. */
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
  // A separate folder: an `npm start` during the tests must not change the code they run.
  const { path } = await bundle(undefined, join(ROOT, "dist", "test"));
  project.provide("bundle", path);
}
