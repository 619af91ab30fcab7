/** Runs the front door alone (serve.ts) in a child process that ends with this one, for tests and benchmarks. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT } from "./root.ts";

const READY_MS_MAX = 30_000;

export interface DoorProcess {
  child: ChildProcess;
  url: string;
  port: number;
}

/** `port` 0 picks a free port; `vars` are additional variables for the Worker. */
export async function startDoorProcess(
  stateDir: string,
  port: number,
  bundlePath: string,
  vars: Record<string, string> = {},
): Promise<DoorProcess> {
  const args = [join(ROOT, "local/serve.ts"), stateDir, String(port), bundlePath];
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, PORTICO_VARS: JSON.stringify(vars) },
    // The child ends when this channel closes, that is when this process is gone.
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  if (child.stdout === null) throw new Error("no output to read");
  const timer = setTimeout(() => child.kill("SIGKILL"), READY_MS_MAX);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const ready: { url: string; port: number } = JSON.parse(line);
      // Keep reading: a full pipe would block the child at its next line.
      child.stdout.resume();
      return { child, ...ready };
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error("the front door ended before it was ready");
}
