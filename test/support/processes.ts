/** Processes of this machine as /proc shows them: which run, and who started whom. */
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
    // The name stands in brackets and may hold anything; what follows the last bracket is fixed.
    const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { pid: Number(pid), parent: Number(parent), state };
  } catch {
    return null; // It ended while we looked.
  }
}

/** A zombie has ended; that its parent has not looked yet is no matter of ours. */
export function isRunning(pid: number): boolean {
  const found = read(pid);
  return found !== null && found.state !== "Z";
}

/** Everything that this process started, directly or not, and that still runs. */
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
