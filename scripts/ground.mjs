/**
 * Prepares what everything else needs: the installed dependencies and the newer Node that comes with them. It runs
 * before anything is installed, so it needs only Node 20 and has no dependencies.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GroundError } from "./ground-error.mjs";
import { withInstallLock } from "./install-lock.mjs";
import { readOr } from "./read-or.mjs";

const NODE_MAJOR_MIN = 20;
const STILL_INSTALLING_MS = 20_000;
/** npm finishes its current step before it ends, which may take long. */
const NPM_ENDS_MS_MAX = 3_000;
const TOLD_LINES_MAX = 15;
const KEPT_LINES_MAX = 200;

/** Installs if necessary. Returns the path of the Node that runs the project. */
export async function ground(root, say = console.log) {
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
    throw new GroundError(`Portico needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.versions.node}.`);
  }
  if (!isStamped(root)) await withInstallLock(root, say, (holder) => install(root, say, holder));
  return nodeOf(root);
}

/** Identifies the contents of node_modules: the lock file, and the platform of the binaries. */
function stampOf(root) {
  const lock = readFileSync(join(root, "package-lock.json"));
  return `${createHash("sha256").update(lock).digest("hex")} ${process.platform}-${process.arch}`;
}

const stampPath = (root) => join(root, "node_modules", ".portico-stamp");

export function isStamped(root) {
  return readOr(stampPath(root), "") === stampOf(root) && nodeOf(root) !== null;
}

/**
 * Whether exactly what the lock file names is installed already (by a developer or a build cache). npm writes its own
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

/** The project's own Node; this process's Node if it is at least as new; null if there is neither. */
export function nodeOf(root) {
  const manifest = readOr(join(root, "node_modules", "node", "package.json"), "null");
  const version = JSON.parse(manifest)?.version;
  if (version === undefined) return null;
  const binary = join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");
  if (existsSync(binary)) return binary;
  return Number(process.versions.node.split(".")[0]) >= Number(version.split(".")[0]) ? process.execPath : null;
}

async function install(root, say, holder) {
  // Another start may have installed while this one waited for the lock.
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
  // NODE_ENV=production or npm's omit setting must not leave out the development tools that local mode needs.
  const { code, lines, stopped } = await runNpm(root, ["ci", "--include=dev", "--no-audit", "--no-fund"], holder);
  clearInterval(still);
  holder(process.pid);
  if (stopped) throw new GroundError("The installation was interrupted; the next start repeats it.");
  if (code !== 0) {
    // npm prints the error first and its usage last.
    const errors = lines.filter((line) => !line.startsWith("npm warn"));
    const told = errors.length <= TOLD_LINES_MAX ? errors : [...errors.slice(0, 7), "...", ...errors.slice(-7)];
    throw new GroundError(
      [
        `npm ci failed (exit code ${code}):`,
        ...told.map((line) => `  ${line}`),
        "Check that this machine reaches the npm registry (npm ping), that the disk has 1 GB free and that the folder",
        "is writable; then start again. To start over, remove node_modules first.",
      ].join("\n"),
    );
  }
  say(`Dependencies installed in ${seconds()} s.`);
}

function runNpm(root, args, holder) {
  // Under npm, use the npm that is running; otherwise the one on the PATH.
  const { npm_execpath: cli, npm_node_execpath: node = process.execPath } = process.env;
  const [command, first] = cli?.endsWith(".js") ? [node, [cli]] : ["npm", []];
  const lines = [];
  return new Promise((resolve) => {
    const child = spawn(command, [...first, ...args], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      // A process group of its own, so that npm's install scripts end with it.
      detached: process.platform !== "win32",
      shell: process.platform === "win32" && first.length === 0,
    });
    // If this process is killed, npm continues: npm holds the lock until it ends.
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
    let stopped = false;
    const stop = (signal) => {
      if (!stopped) setTimeout(() => killGroup(child, "SIGKILL"), NPM_ENDS_MS_MAX).unref();
      stopped = true;
      killGroup(child, signal);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stop);
    child.on("error", (error) => resolve({ code: 127, lines: [error.message] }));
    child.on("close", (code, signal) => {
      for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeListener(name, stop);
      resolve({ code: code ?? signal, lines, stopped });
    });
  });
}

function killGroup(child, signal) {
  try {
    if (process.platform === "win32") child.kill(signal);
    else process.kill(-child.pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

/** The package `node` downloads its binary in an install script, which npm may be configured not to run. */
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

/** Fails early with a reason: the binary needs glibc. */
function checkNode(root) {
  const done = spawnSync(nodeOf(root), ["--version"], { encoding: "utf8" });
  if (done.status === 0) return;
  throw new GroundError(
    `The Node that came with the dependencies does not run here (${done.error?.message ?? done.stderr?.trim()}).\n` +
      "Portico runs on Linux with glibc (Debian, Ubuntu, Fedora ...) and macOS, on x64 and arm64.",
  );
}
