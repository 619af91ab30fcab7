/** Runs `portico` as npx does, in its own process, with no deployment but the one that the test gives. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { vi } from "vitest";
import { ROOT } from "../../local/root.ts";

const RUN_MS_MAX = 30_000;
/** A test may run a dozen commands of two processes each, on a busy machine. */
const TEST_MS_MAX = 60_000;
export const COMMAND = join(ROOT, "scripts/portico.mjs");

vi.setConfig({ testTimeout: TEST_MS_MAX });

export interface Ran {
  /** Exit code, or the name of the signal that ended it. */
  code: number | string;
  out: string;
  err: string;
}

export interface Setting {
  url?: string;
  token?: string;
  stateDir?: string;
  cwd?: string;
  /** Standard input; empty when left out. */
  input?: string;
  /** Keeps standard input open, so that the test can write to it. */
  keep?: boolean;
}

export interface Running extends Promise<Ran> {
  child: ChildProcess;
  /** Everything that it has written so far. */
  said(): string;
}

/** The environment without variables that name another deployment, and without colors. */
function environment({ url, token, stateDir = "/nowhere" }: Setting): Record<string, string | undefined> {
  return { ...process.env, PORTICO_URL: url, PORTICO_TOKEN: token, STATE_DIR: stateDir, FORCE_COLOR: undefined };
}

export function portico(args: string[], setting: Setting = {}): Running {
  return run(process.execPath, [COMMAND, ...args], setting);
}

export function run(file: string, args: string[], setting: Setting): Running {
  const { cwd = ROOT, input, keep = false } = setting;
  const child = spawn(file, args, { cwd, env: environment(setting), stdio: "pipe", timeout: RUN_MS_MAX });
  const seen = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (seen.out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (seen.err += text));
  if (!keep) child.stdin.end(input);
  const ran = new Promise<Ran>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ ...seen, code: code ?? signal ?? "" }));
  });
  return Object.assign(ran, { child, said: () => seen.out + seen.err });
}

/** Parses the output as JSON; throws if the command failed or wrote anything else. */
export async function jsonOf<T = unknown>(running: Ran | Promise<Ran>): Promise<T> {
  const { code, out, err } = await running;
  if (code !== 0) throw new Error(`exit code ${code}: ${err}`);
  const value: T = JSON.parse(out);
  return value;
}

/** Rows of a printed table, split into columns at two or more spaces. */
export function rowsOf({ out }: Ran): string[][] {
  return out
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
}
