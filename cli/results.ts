/** `portico results`: purges and verifies stored results and answers. */
import type { Command } from "commander";
import { acting, destructive, type Front, leaf, showThing, type Yes } from "./command.ts";
import { confirm } from "./confirm.ts";
import { Failure, usageFailure } from "./failure.ts";
import { tenantNamed } from "./tenants.ts";

/** Most calls of one command. A purge call removes up to 20,000 results; a verify call compares up to 5,000. */
const CALLS_MAX = 10_000;
const KINDS = ["results", "answers", "all"];

interface Purged {
  results: number;
  answers: number;
  bytes: number;
  done: boolean;
}

interface Verified {
  compared: number;
  orphans: number;
  missing: number;
  restored: number;
  removed_objects: number;
  removed_rows: number;
  next_cursor: string | null;
}

interface Which extends Yes {
  tenant?: string;
  service?: string;
  modelVersion?: string;
  dryRun?: boolean;
}

export function addResults(program: Command): void {
  const results = program.command("results").description("what is kept of tenants' requests");

  destructive(
    leaf(results, "purge <what>", "purge results, answers or all", "results purge answers --service portrait"),
  )
    .option("--tenant <tenant>", "only what belongs to this tenant, by id or name")
    .option("--service <id>", "only what this service made")
    .option("--model-version <version>", "only what was made with it")
    .option("--dry-run", "only tell what would go")
    .action(acting(purge));

  leaf(results, "verify", "compare the objects in R2 with their rows in D1", "results verify --mend")
    .option("--mend", "restore lost rows; remove expired objects, and rows without an object")
    .action(acting(verify));
}

async function purge(front: Front, what: string, { tenant, service, modelVersion, dryRun, yes }: Which): Promise<void> {
  if (!KINDS.includes(what)) throw usageFailure(`${what} is none of ${KINDS.join(", ")}.`);
  const id = tenant === undefined ? undefined : (await tenantNamed(front.api, tenant)).id;
  const which = { what, tenant: id, service, model_version: modelVersion };
  const told = await front.api.call<Purged>("POST", "/purge", { ...which, dry_run: true });
  if (dryRun === true || told.done) return showThing(front, told);
  const much = `${told.results} results and ${told.answers} answers (${told.bytes} bytes) will be removed.`;
  await confirm({ what: much, name: tenant ?? service ?? modelVersion ?? what, yes });
  const whole: Purged = { results: 0, answers: 0, bytes: 0, done: false };
  for (let calls = 0; !whole.done; calls++) {
    if (calls === CALLS_MAX) throw new Failure("More is left: run the command again.");
    const purged = await front.api.call<Purged>("POST", "/purge", which);
    whole.results += purged.results;
    whole.answers += purged.answers;
    whole.bytes += purged.bytes;
    whole.done = purged.done;
    if (!whole.done) front.note(`${whole.results} results and ${whole.answers} answers removed so far; more are left.`);
  }
  showThing(front, whole);
}

async function verify(front: Front, { mend = false }: { mend?: boolean }): Promise<void> {
  const found = { compared: 0, orphans: 0, missing: 0, restored: 0, removed_objects: 0, removed_rows: 0 };
  let cursor: string | null = "";
  for (let calls = 0; cursor !== null; calls++) {
    if (calls === CALLS_MAX) throw new Failure("Stopped before everything was compared.");
    const page: Verified = await front.api.call("POST", "/results/verify", { mend, ...(cursor && { cursor }) });
    for (const name of Object.keys(found) as (keyof typeof found)[]) found[name] += page[name];
    cursor = page.next_cursor;
    if (cursor !== null) front.note(`${found.compared} compared so far; more are left.`);
  }
  showThing(front, found);
  const { orphans, missing } = found;
  if (!mend && orphans + missing > 0) front.note("--mend restores lost rows and removes what has expired.");
}
