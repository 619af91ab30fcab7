/** The question before something is taken away: the name must be typed, so that nobody says yes by habit. */
import { createInterface } from "node:readline/promises";
import type { Readable, Writable } from "node:stream";
import { Failure, usageFailure } from "./failure.ts";
import { clean } from "./table.ts";

/** Who is still not sure by then should begin again. */
const ASKED_MS_MAX = 5 * 60_000;

export interface Doubt {
  /** What would be done, as a sentence. */
  what: string;
  /** What must be typed. */
  name: string;
  /** `--yes` was given. */
  yes?: boolean | undefined;
}

/** Comes back when it may be done, and throws when not. */
export async function confirm({ what, name, yes = false }: Doubt): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY)
    throw usageFailure(`${clean(what)} Nobody is here to be asked, so nothing was done.`, "With --yes it is.");
  // Standard output is for the answer alone.
  await ask({ what, name }, process.stdin, process.stderr);
}

export async function ask({ what, name }: Doubt, from: Readable, to: Writable): Promise<void> {
  const asked = createInterface({ input: from, output: to });
  const left = new AbortController();
  // Ctrl-C and the end of the input; else the question would stay open for ever.
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
  if (typed?.trim() !== clean(name).trim()) throw new Failure("Nothing was done: the name was not typed.");
}
