/** `npm start` in a test: in its own process, with its own port and folder. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "vitest";
import { ROOT } from "../../local/root.ts";
import { descendantsOf, ended, isRunning, killAll } from "./processes.ts";

/** Longest time that Ctrl-C may take. */
export const END_MS_MAX = 5_000;
const READY_MS_MAX = 40_000;
const POLL_MS = 50;

export interface DevFile {
  url: string;
  admin_token: string;
  api_key: string | null;
  services: string[];
}

export interface Local {
  pid: number;
  url: string;
  /** The output so far, of both streams. */
  output(): string;
  /** The contents of dev.json once it exists; rejects if the process ends before. */
  ready(): Promise<DevFile>;
  /** Process ids of everything it has started that still runs. */
  family(): number[];
  signal(signal: NodeJS.Signals): void;
  /** Exit code, or the signal that ended it. */
  exit: Promise<number | string>;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return address.port;
}

/** Every process started by the file's tests, for the cleanup at its end. */
const started: number[] = [];

export function startLocal(settings: { port: number; stateDir: string; args?: string[]; npm?: boolean }): Local {
  const { port, stateDir, args = [], npm = false } = settings;
  const command = npm ? ["npm", "start", "--"] : [process.execPath, join(ROOT, "scripts/start.mjs")];
  const [file = "", ...first] = command;
  const child = spawn(file, [...first, ...args], {
    cwd: ROOT,
    env: { ...process.env, HOST: "", PORT: String(port), STATE_DIR: stateDir },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const pid = child.pid ?? 0;
  started.push(pid);
  const seen = { said: "", over: false };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (seen.said += String(chunk)));
  const exit = new Promise<number | string>((resolve) => {
    child.on("close", (code, signal) => {
      seen.over = true;
      resolve(code ?? signal ?? "");
    });
  });
  const path = join(stateDir, "dev.json");
  return {
    pid,
    url: `http://127.0.0.1:${port}`,
    output: () => seen.said,
    exit,
    family: () => descendantsOf(pid),
    signal: (signal) => child.kill(signal),
    ready: async () => {
      for (const until = Date.now() + READY_MS_MAX; Date.now() < until && !seen.over;) {
        if (existsSync(path)) {
          const dev: DevFile = JSON.parse(readFileSync(path, "utf8"));
          return dev;
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      throw new Error(`not ready:\n${seen.said}`);
    },
  };
}

/** Ends it with the signal and checks that none of its processes is left. Returns the exit code. */
export async function end(local: Local, signal: NodeJS.Signals): Promise<number | string> {
  const family = local.family();
  const from = Date.now();
  local.signal(signal);
  const code = await local.exit;
  for (const pid of family)
    expect(await ended(pid, END_MS_MAX - (Date.now() - from)), `process ${pid} still runs`).toBe(true);
  expect(Date.now() - from).toBeLessThan(END_MS_MAX);
  return code;
}

/** For afterAll: a failed test must leave nothing running. */
export function endAllLocal(): void {
  for (const pid of started.filter(isRunning)) killAll([...descendantsOf(pid), pid]);
}
