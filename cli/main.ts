/** Runs one `portico` command. Exit codes: 0 done, 1 refused or failed, 2 not understood and nothing done. */
import { CommanderError } from "commander";
import { hasCode } from "../local/failure.ts";
import { Failure } from "./failure.ts";
import { makeProgram } from "./program.ts";

// A reader that closes the pipe early (`| head`) is not an error.
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
  // commander has printed the error already; help that was asked for is not an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (!(error instanceof Failure)) throw error;
  console.error(`portico: ${error.line}`);
  return error.exitCode;
}
