/**
 * Runs a child Node in place of this process: forwards signals, returns its exit code, and ends it when this process
 * ends.
 */
import { spawn } from "node:child_process";
import { constants } from "node:os";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const PARENT_POLL_MS = 1_000;

/** `onMessage` receives the child's IPC messages. Resolves to the exit code. */
export function runNode(node, args, { root, onMessage = () => {} }) {
  // The child ends when this channel closes, that is when this process is gone, even by kill -9.
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

/** npm forwards no signal when it is killed with SIGKILL; its orphan must not keep the port. */
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
