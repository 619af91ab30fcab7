/** `portico`: runs one command. Exit codes: 0 done, 1 refused or failed, 2 not understood and nothing sent. */
import { CommanderError } from "commander";
import { hasCode } from "../local/failure.ts";
import { Failure } from "./failure.ts";
import { makeProgram } from "./program.ts";

// Who reads only the beginning (`| head`) has seen enough.
process.stdout.on("error", (error) => {
  if (!hasCode(error, "EPIPE")) throw error;
  process.exit(0);
});

try {
  await makeProgram().parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

function exitCodeOf(error: unknown): number {
  // commander has told it already; help that was asked for is no error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (!(error instanceof Failure)) throw error;
  console.error(`portico: ${error.line}`);
  return error.exitCode;
}
