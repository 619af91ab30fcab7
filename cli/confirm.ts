/** Confirmation of destructive commands: the name must be typed, so that nobody confirms by habit. */
import { createInterface } from "node:readline/promises";
import type { Readable, Writable } from "node:stream";
import { Failure, usageFailure } from "./failure.ts";
import { clean } from "./table.ts";

/** How long the prompt waits. */
const ASKED_MS_MAX = 5 * 60_000;

export interface Confirmation {
  /** What will be done, as a sentence. */
  what: string;
  /** What must be typed. */
  name: string;
  /** `--yes` was given. */
  yes?: boolean | undefined;
}

/** Returns when the action is confirmed; throws otherwise. */
export async function confirm({ what, name, yes = false }: Confirmation): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY)
    throw usageFailure(
      `${clean(what)} There is no terminal to confirm on, so nothing was done.`,
      "Add --yes to skip the confirmation.",
    );
  // Standard output is reserved for the answer.
  await ask({ what, name }, process.stdin, process.stderr);
}

export async function ask({ what, name }: Confirmation, from: Readable, to: Writable): Promise<void> {
  const asked = createInterface({ input: from, output: to });
  const left = new AbortController();
  // Ctrl-C or the end of the input: otherwise the prompt would never end.
  asked.on("SIGINT", () => left.abort());
  asked.on("close", () => left.abort());
  const question = `${clean(what)}\nType ${clean(name)} to go on: `;
  let typed: string | null = null;
  try {
    typed = await asked.question(question, {
      signal: AbortSignal.any([left.signal, AbortSignal.timeout(ASKED_MS_MAX)]),
    });
  } catch (error) {
    if (!(error instanceof Error && error.name === "AbortError")) throw error;
    to.write("\n");
  } finally {
    asked.close();
  }
  if (typed?.trim() !== clean(name).trim()) throw new Failure("Nothing was done: the name does not match.");
}
