/** `npm start`: installs if necessary, then runs local/start.ts. */
import { fileURLToPath } from "node:url";
import { runNode } from "./child.mjs";
import { GroundError } from "./ground-error.mjs";
import { ground } from "./ground.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

try {
  const node = await ground(root);
  process.exitCode = await runNode(node, ["local/start.ts", ...process.argv.slice(2)], { root });
} catch (error) {
  if (!(error instanceof GroundError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
