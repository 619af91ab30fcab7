/** The front door alone (serve.ts) in a process of its own, which ends with this one: for tests and measurements. */
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

/** `port` 0 takes a free one; `vars` are more variables for the Worker. */
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
    // The channel's end tells the child that this process is gone.
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  if (child.stdout === null) throw new Error("no output to read");
  const timer = setTimeout(() => child.kill("SIGKILL"), READY_MS_MAX);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const ready: { url: string; port: number } = JSON.parse(line);
      // A full pipe would stop it at its next line.
      child.stdout.resume();
      return { child, ...ready };
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error("the front door ended before it was ready");
}
