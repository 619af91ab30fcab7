/** Starts the programs of a measurement. Each is ended by its own process id, and none outlives this process. */
import { spawn, type ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { ROOT } from "../local/root.ts";

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 5_000;
const POLL_MS = 20;
const TOLD_LINES_MAX = 20;

export interface Program {
  stop: () => Promise<void>;
  /** Kills the program and its children with SIGKILL. */
  kill: () => Promise<void>;
}

interface Started extends Program {
  child: ChildProcess;
  /** Resolves when the program ends, with its last output. */
  ended: Promise<string>;
}

const running = new Set<ChildProcess>();
const folders = new Set<string>();
process.on("exit", () => {
  // Not SIGKILL, which would leave a server's workers behind.
  for (const child of running) child.kill("SIGTERM");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const)
  process.once(signal, () => process.exit(code));

/** Creates a temporary folder that is removed when this process ends, if not before. */
export async function makeFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "portico-bench-"));
  folders.add(path);
  const remove = async (): Promise<void> => {
    await rm(path, { recursive: true, force: true });
    folders.delete(path);
  };
  return { path, remove };
}

function start(command: string, args: readonly string[]): Started {
  // A process group of its own, so that a kill includes its children: nginx's workers outlive their master.
  const child = spawn(command, args, { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"], detached: true });
  const said: string[] = [];
  child.stderr.on("data", (part: Buffer) => {
    said.push(...String(part).trimEnd().split("\n"));
    said.splice(0, said.length - TOLD_LINES_MAX);
  });
  running.add(child);
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code) => resolve([`${command} ended with ${code}`, ...said].join("\n  ")));
  });
  void ended.then(() => running.delete(child));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const limit = setTimeout(() => killGroup(child), STOP_MS_MAX);
    await ended;
    clearTimeout(limit);
  };
  const kill = async (): Promise<void> => {
    killGroup(child);
    await ended;
  };
  return { child, ended, stop, kill };
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  // After its end, the process id may have been reused.
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, "SIGKILL");
}

/** Starts one of the project's programs. Resolves with the line of JSON that it prints when it is ready. */
export async function startOwn(
  main: string,
  args: readonly string[],
): Promise<Program & { ready: Readonly<Record<string, unknown>> }> {
  const { child, ended, stop, kill } = start(process.execPath, [join(ROOT, main), ...args]);
  const limit = setTimeout(() => killGroup(child), READY_MS_MAX);
  for await (const line of createInterface({ input: child.stdout ?? process.stdin })) {
    if (!line.startsWith("{")) continue;
    clearTimeout(limit);
    child.stdout?.resume();
    const ready: Record<string, unknown> = JSON.parse(line);
    return { ready, stop, kill };
  }
  throw new Error(`not ready: ${await ended}`);
}

/** Starts a server. Resolves when its port accepts connections. */
export async function startServer(command: string, args: readonly string[], port: number): Promise<Program> {
  const { child, ended, stop, kill } = start(command, args);
  child.stdout?.resume();
  let why: string | null = null;
  void ended.then((said) => (why = said));
  for (const until = performance.now() + READY_MS_MAX; performance.now() < until; await delay(POLL_MS)) {
    if (why !== null) throw new Error(why);
    if (await takesConnections(port)) return { stop, kill };
  }
  await stop();
  throw new Error(`${command} took no connection in ${READY_MS_MAX / 1000} s`);
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** A port that is currently free. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}
