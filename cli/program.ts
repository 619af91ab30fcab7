/** The command tree. */
import { Command } from "commander";
import { addCards } from "./cards.ts";
import { addCompletion } from "./completion.ts";
import { addKeys } from "./keys.ts";
import { addLedger } from "./ledger.ts";
import { addResults } from "./results.ts";
import { addOperators } from "./operators.ts";
import { addServices } from "./services.ts";
import { addStatus } from "./status.ts";
import { addTenants } from "./tenants.ts";
import { addUsage } from "./usage.ts";

const PLACE = `
The deployment is named by PORTICO_URL and PORTICO_TOKEN (an operator's token), else by the npm start that runs here.
Prefer PORTICO_TOKEN to --token: other users of this machine can read command lines.`;

export function makeProgram(): Command {
  const program = new Command("portico")
    .description("Runs a deployment of Portico from the command line.")
    .option("--url <url>", "the deployment's address")
    .option("--token <token>", "an operator's token; prefer PORTICO_TOKEN")
    .option("--json", "print the API's JSON, for programs")
    .addHelpText("after", `${PLACE}\n\nExample:\n  $ portico status --watch`)
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("Run the command with --help to see what it accepts.")
    // Set before the commands are added, because they inherit it.
    .exitOverride();
  addStatus(program);
  addTenants(program);
  addKeys(program);
  addServices(program);
  addCards(program);
  addOperators(program);
  addUsage(program);
  addResults(program);
  addLedger(program);
  addCompletion(program);
  return program;
}
