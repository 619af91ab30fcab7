/** Runs the project's own Node in this process's place: its signals, its exit code, and its end when this one ends. */
import { spawn } from "node:child_process";
import { constants } from "node:os";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const PARENT_POLL_MS = 1_000;

/** `onMessage` hears what the child says over its channel; the promise is the exit code. */
export function runNode(node, args, { root, onMessage = () => {} }) {
  // The channel's end tells the child that this process is gone, also after kill -9.
  const child = spawn(node, args, { cwd: root, stdio: ["inherit", "inherit", "inherit", "ipc"] });
  child.on("message", onMessage);
  for (const signal of SIGNALS) process.on(signal, () => child.kill(signal));
  const watch = watchParent(() => child.kill("SIGTERM"));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearInterval(watch);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** npm that was killed hard passes no signal on; its orphan must not hold the port. */
function watchParent(onGone) {
  if (process.env.npm_lifecycle_event === undefined) return undefined;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    onGone();
  }, PARENT_POLL_MS);
  return watch;
}
