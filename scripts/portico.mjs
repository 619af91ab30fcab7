#!/usr/bin/env node
/** `npx portico`: installs if necessary, then runs cli/main.ts in the folder from which it was called. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runNode } from "./child.mjs";
import { GroundError } from "./ground-error.mjs";
import { ground } from "./ground.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

try {
  // Installation messages go to standard error: standard output may be read by a program.
  const node = await ground(root, console.error);
  process.exitCode = await runNode(node, [join(root, "cli/main.ts"), ...process.argv.slice(2)], {
    root: process.cwd(),
  });
} catch (error) {
  if (!(error instanceof GroundError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
