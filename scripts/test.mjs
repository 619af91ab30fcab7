/** `npm test`: installs if necessary, runs every test, and ends with the line `N passed, N failed`. */
import { fileURLToPath } from "node:url";
import { runNode } from "./child.mjs";
import { GroundError } from "./ground-error.mjs";
import { ground } from "./ground.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Default until the runner reports: a runner that crashed is a failure, not an empty success. */
let counted = { passed: 0, failed: 1 };

try {
  const node = await ground(root);
  const onMessage = (message) => {
    if (typeof message?.passed === "number" && typeof message?.failed === "number") counted = message;
  };
  const code = await runNode(node, ["test/support/run.ts", ...process.argv.slice(2)], { root, onMessage });
  if (code !== 0 && counted.failed === 0) counted.failed = 1;
} catch (error) {
  if (!(error instanceof GroundError)) throw error;
  console.error(error.message);
}
console.log(`${counted.passed} passed, ${counted.failed} failed`);
process.exitCode = counted.failed === 0 ? 0 : 1;
