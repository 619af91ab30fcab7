/** Memory use of the runtime on this machine. */
import { readFileSync } from "node:fs";
import { descendantsOf } from "../support/processes.ts";

/** Resident memory of the runtime, in MB. */
export function residentMb(): number {
  const pids = descendantsOf(process.pid).filter(
    (pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd",
  );
  return Math.max(
    ...pids.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024),
  );
}
