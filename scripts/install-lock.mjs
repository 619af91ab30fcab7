/**
 * A lock for installing dependencies: if two starts run at the same time in one clone, one installs and the other
 * waits. The lock is a file that names its holder; a lock whose holder is dead is removed.
 */
import { renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { GroundError } from "./ground-error.mjs";
import { readOr } from "./read-or.mjs";

/**
 * The holder touches the lock file this often. For a holder on another machine (a shared folder) the file's age is the
 * only sign of life. On this machine the process id decides, and the age only as a last resort.
 */
const LOCK_TOUCH_MS = 5_000;
const LOCK_STALE_MS = 30_000;
const LOCK_STALE_HERE_MS = 10 * 60_000;
const LOCK_POLL_MS = 500;
const LOCK_WAIT_MS_MAX = 15 * 60_000;

const heldBy = (pid) => JSON.stringify({ pid, host: hostname() });

/** `work` may hand the lock to another process, which then holds it while it lives. */
export async function withInstallLock(root, say, work) {
  const path = join(root, ".portico-install.lock");
  const until = Date.now() + LOCK_WAIT_MS_MAX;
  for (let waiting = false; !tryLock(path, heldBy(process.pid)); waiting = true) {
    if (!waiting) say("Another start is installing dependencies here; waiting for it.");
    if (Date.now() > until) throw new GroundError(`Waited too long for ${path}; remove it if no npm ci is running.`);
    removeIfStale(path);
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  const touch = setInterval(() => utimesSync(path, new Date(), new Date()), LOCK_TOUCH_MS);
  try {
    return await work((pid) => writeFileSync(path, heldBy(pid)));
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
  // Renamed first, so that if two processes see a stale lock only one removes it, and never a new lock.
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
    // Half written: its writer is writing now, or died while writing.
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
