/** Runs vitest with the arguments of `npm test` and sends the result to scripts/test.mjs. */
import { parseCLI, startVitest } from "vitest/node";
import { count } from "./count.ts";

const args = process.argv.slice(2);
const { filter, options } = parseCLI(["vitest", "run", ...args]);

// The process that started this one is gone, so nobody waits for the result.
process.once("disconnect", () => process.exit(1));

const vitest = await startVitest("test", filter, options);
const partial = options.testNamePattern !== undefined;
const counted = count(vitest.state.getTestModules(), vitest.state.getUnhandledErrors().length, partial);
await vitest.close();
process.send?.(counted, () => process.exit(counted.failed === 0 ? 0 : 1));
