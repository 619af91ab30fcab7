/**
 * The ground that everything else stands on: installed dependencies, and the newer Node that comes with them. Plain
 * Node 20 without a dependency, because it runs before anything is installed.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

const NODE_MAJOR_MIN = 20;
/**
 * The holder of the install lock touches it this often. Whether a process of another machine (a shared folder) still
 * holds it can only be told from that; on this machine its process counts, and the age only in the end.
 */
const LOCK_TOUCH_MS = 5_000;
const LOCK_STALE_MS = 30_000;
const LOCK_STALE_HERE_MS = 10 * 60_000;
const LOCK_POLL_MS = 500;
const LOCK_WAIT_MS_MAX = 15 * 60_000;
const STILL_INSTALLING_MS = 20_000;
const TOLD_LINES_MAX = 15;
const KEPT_LINES_MAX = 200;

/** An expected failure: its message is all that the reader needs. */
export class GroundError extends Error {}

/** Installs when needed and returns the path of the Node that runs the project. */
export async function ground(root, say = console.log) {
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
    throw new GroundError(`Portico needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.versions.node}.`);
  }
  if (!isStamped(root)) await withInstallLock(root, say, (holder) => install(root, say, holder));
  return nodeOf(root);
}

/** What node_modules is made from: the lock file, and the platform that its binaries are for. */
function stampOf(root) {
  const lock = readFileSync(join(root, "package-lock.json"));
  return `${createHash("sha256").update(lock).digest("hex")} ${process.platform}-${process.arch}`;
}

const stampPath = (root) => join(root, "node_modules", ".portico-stamp");

export function isStamped(root) {
  return readOr(stampPath(root), "") === stampOf(root) && nodeOf(root) !== null;
}

/**
 * Whether somebody else (a developer, a build cache) has installed exactly what the lock file names. npm writes its own
 * record only when an installation is complete.
 */
function isInstalled(root) {
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const present = JSON.parse(readOr(join(root, "node_modules", ".package-lock.json"), "{}")).packages ?? {};
  const same = ([path, entry]) => {
    const found = present[path];
    if (found === undefined) return path === "" || entry.optional === true || entry.peer === true;
    return found.version === entry.version && found.integrity === entry.integrity;
  };
  return Object.entries(wanted).every(same) && Object.keys(present).every((path) => path in wanted);
}

/** The project's own Node; on a machine whose Node is as new, that one is as good; null when there is neither. */
export function nodeOf(root) {
  const manifest = readOr(join(root, "node_modules", "node", "package.json"), "null");
  const version = JSON.parse(manifest)?.version;
  if (version === undefined) return null;
  const binary = join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");
  if (existsSync(binary)) return binary;
  return Number(process.versions.node.split(".")[0]) >= Number(version.split(".")[0]) ? process.execPath : null;
}

async function install(root, say, holder) {
  // Another start may have done it while this one waited for the lock.
  if (isStamped(root)) return;
  if (!isInstalled(root)) await npmCi(root, say, holder);
  if (nodeOf(root) === null) repairNode(root, say);
  checkNode(root);
  writeFileSync(stampPath(root), stampOf(root));
}

async function npmCi(root, say, holder) {
  const from = Date.now();
  const seconds = () => Math.round((Date.now() - from) / 1000);
  say("Installing dependencies (npm ci); this happens once, and again when package-lock.json changes.");
  const still = setInterval(() => say(`  still installing, ${seconds()} s`), STILL_INSTALLING_MS);
  // A production setting of the machine must not leave out the tools that local mode is made of.
  const { code, lines, stopped } = await runNpm(root, ["ci", "--include=dev", "--no-audit", "--no-fund"], holder);
  clearInterval(still);
  if (stopped) throw new GroundError("The installation was ended; the next start begins it anew.");
  if (code !== 0) {
    // npm says what is wrong first and how it is used last.
    const errors = lines.filter((line) => !line.startsWith("npm warn"));
    const told = errors.length <= TOLD_LINES_MAX ? errors : [...errors.slice(0, 7), "...", ...errors.slice(-7)];
    throw new GroundError(
      [
        `npm ci failed (exit code ${code}):`,
        ...told.map((line) => `  ${line}`),
        "Check that this machine reaches the npm registry (npm ping), that the disk has 1 GB free and that the folder",
        "is writable; then start again. To begin anew, remove node_modules first.",
      ].join("\n"),
    );
  }
  say(`Dependencies installed in ${seconds()} s.`);
}

function runNpm(root, args, holder) {
  // Under npm the running npm is the one to use; otherwise the one on the PATH.
  const { npm_execpath: cli, npm_node_execpath: node = process.execPath } = process.env;
  const [command, first] = cli?.endsWith(".js") ? [node, [cli]] : ["npm", []];
  const lines = [];
  return new Promise((resolve) => {
    const child = spawn(command, [...first, ...args], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32" && first.length === 0,
    });
    // If this process is killed, npm goes on: the lock is npm's until it ends.
    if (child.pid !== undefined) holder(child.pid);
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        lines.push(
          ...String(chunk)
            .split("\n")
            .filter((line) => line.trim() !== ""),
        );
        lines.splice(0, lines.length - KEPT_LINES_MAX);
      });
    }
    // Waits for npm to end, however often it is asked.
    let stopped = null;
    const stop = (signal) => {
      stopped = signal;
      child.kill(signal);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stop);
    child.on("error", (error) => resolve({ code: 127, lines: [error.message] }));
    child.on("close", (code, signal) => {
      for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeListener(name, stop);
      resolve({ code: code ?? signal, lines, stopped });
    });
  });
}

/** npm may have been told to run no install scripts; the package `node` fetches its binary in one. */
function repairNode(root, say) {
  say("The install script of the package `node` did not run; running it now.");
  const folder = join(root, "node_modules", "node");
  const done = spawnSync(process.execPath, ["installArchSpecificPackage.js"], { cwd: folder, encoding: "utf8" });
  if (nodeOf(root) !== null) return;
  const last = `${done.stdout ?? ""}${done.stderr ?? ""}`.split("\n").slice(-TOLD_LINES_MAX).join("\n  ");
  throw new GroundError(
    "The package `node` has no binary for this machine, and its install script failed:\n" +
      `  ${last}\n` +
      "Allow install scripts (npm config set ignore-scripts false) and remove node_modules, or use Node 24.",
  );
}

/** Fails here with a reason rather than later without one: the binary wants glibc. */
function checkNode(root) {
  const done = spawnSync(nodeOf(root), ["--version"], { encoding: "utf8" });
  if (done.status === 0) return;
  throw new GroundError(
    `The Node that came with the dependencies does not run here (${done.error?.message ?? done.stderr?.trim()}).\n` +
      "Portico runs on Linux with glibc (Debian, Ubuntu, Fedora ...) and macOS, on x64 and arm64.",
  );
}

/** Two starts at the same time in one clone must not install into the same folder. */
async function withInstallLock(root, say, work) {
  const path = join(root, ".portico-install.lock");
  const mine = (pid) => JSON.stringify({ pid, host: hostname() });
  const until = Date.now() + LOCK_WAIT_MS_MAX;
  for (let waiting = false; !tryLock(path, mine(process.pid)); waiting = true) {
    if (!waiting) say("Another start is installing dependencies here; waiting for it.");
    if (Date.now() > until) throw new GroundError(`Waited too long for ${path}; remove it if no npm ci is running.`);
    removeIfStale(path);
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  const touch = setInterval(() => utimesSync(path, new Date(), new Date()), LOCK_TOUCH_MS);
  try {
    return await work((pid) => writeFileSync(path, mine(pid)));
  } finally {
    clearInterval(touch);
    rmSync(path, { force: true });
  }
}

function tryLock(path, text) {
  try {
    writeFileSync(path, text, { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
}

function removeIfStale(path) {
  const seen = readOr(path, null);
  if (seen === null || !isStale(path, seen)) return;
  // Renamed first, so that of two who saw it stale only one removes it, and never a new one.
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (readOr(aside, null) !== seen) renameSync(aside, path);
    else rmSync(aside);
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
}

function isStale(path, text) {
  const untouchedMs = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (untouchedMs > LOCK_STALE_HERE_MS) return true;
  let holder;
  try {
    holder = JSON.parse(text);
  } catch {
    // Half written: its writer is at it now, or died at it.
    return untouchedMs > LOCK_STALE_MS;
  }
  return holder.host === hostname() ? !isAlive(holder.pid) : untouchedMs > LOCK_STALE_MS;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function readOr(path, otherwise) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return otherwise;
    throw error;
  }
}
