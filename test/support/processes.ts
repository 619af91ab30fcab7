/** Processes of this machine according to /proc: which ones run, and who started them. */
import { readdirSync, readFileSync } from "node:fs";

const POLL_MS = 50;

interface Process {
  pid: number;
  parent: number;
  state: string;
}

function read(pid: number | string): Process | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name is in parentheses and may contain anything; the fields after the last parenthesis are fixed.
    const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { pid: Number(pid), parent: Number(parent), state };
  } catch {
    return null; // It ended during the read.
  }
}

/** A zombie has ended; whether its parent has reaped it does not matter here. */
export function isRunning(pid: number): boolean {
  const found = read(pid);
  return found !== null && found.state !== "Z";
}

/** All running processes that this process started, directly or indirectly. */
export function descendantsOf(pid: number): number[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(read)
    .filter((found) => found !== null);
  const below = (parent: number): number[] =>
    all.filter((found) => found.parent === parent).flatMap((found) => [found.pid, ...below(found.pid)]);
  return below(pid).filter(isRunning);
}

/** Whether the process has ended within the limit. */
export async function ended(pid: number, limitMs: number): Promise<boolean> {
  for (const until = Date.now() + limitMs; Date.now() < until;) {
    if (!isRunning(pid)) return true;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return !isRunning(pid);
}

export function killAll(pids: number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}
