/**
 * Ties child processes to the life of this process: when it ends, for whatever reason, they end (see tether.sh). Where
 * no named pipe can be created, children run untied, and only an orderly shutdown stops them.
 */
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MKFIFO_MS_MAX = 5_000;

export interface Tether {
  /** The command that runs tied children, and the environment that it needs. */
  command: string;
  env: Record<string, string>;
  /** Ends every child that still runs. */
  cut(): void;
}

/** Creates the pipe in `parent`, or in the system's temporary folder if `parent` does not support pipes. */
export function makeTether(parent: string): Tether | null {
  return makeTetherIn(parent) ?? makeTetherIn(tmpdir());
}

function makeTetherIn(parent: string): Tether | null {
  const folder = mkdtempSync(join(parent, "tether-"));
  const pipe = join(folder, "pipe");
  try {
    execFileSync("mkfifo", ["-m", "600", pipe], { stdio: "ignore", timeout: MKFIFO_MS_MAX });
  } catch {
    rmSync(folder, { recursive: true, force: true });
    return null;
  }
  // Opened for reading and writing so that opening does not wait for a reader; never read from here.
  const end = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  let whole = true;
  return {
    command: fileURLToPath(new URL("tether.sh", import.meta.url)),
    env: { TETHER: pipe },
    cut() {
      if (!whole) return;
      whole = false;
      closeSync(end);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
