/**
 * STATE_DIR: who owns it, which instance uses it, and what may be removed from it. Files that Portico did not create
 * are never touched. A lock that the operating system releases when its holder dies allows one instance at a time.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { messageOf } from "./failure.ts";

/** Marks the folder as ours, so that the entries below may be removed. */
const MARK = "portico-state.txt";
const MARK_TEXT =
  "Local state of Portico: databases, results, secrets of this machine. `npm start -- --fresh` wipes it.\n";
const LOCK = "lock.sqlite";
const OWNER = "instance.json";
/** Everything that an instance creates here; --fresh removes it. */
const ENTRIES = [
  "state",
  "tmp",
  "secrets.json",
  "dev.json",
  "park.json",
  "portico.log",
  "portico.log.1",
  "demo.png",
  "demo.wav",
];

export class StateError extends Error {}

export interface StateDir {
  path: string;
  release(): void;
}

/** Locks the folder for this instance; with `fresh`, also empties it. */
export function takeStateDir(path: string, owner: { url: string }, fresh: boolean): StateDir {
  claim(path);
  const lock = new DatabaseSync(join(path, LOCK));
  try {
    lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    if (!messageOf(error).includes("database is locked")) throw error;
    throw new StateError(
      `${path} is in use by another instance (${ownerOf(path)}). End it, or choose another STATE_DIR.`,
    );
  }
  if (fresh) for (const entry of ENTRIES) rmSync(join(path, entry), { recursive: true, force: true });
  // Leftovers of the last run, however it ended: they describe addresses that no longer answer.
  for (const entry of ["dev.json", "tmp"]) rmSync(join(path, entry), { recursive: true, force: true });
  mkdirSync(join(path, "tmp"));
  writeFileSync(join(path, OWNER), `${JSON.stringify({ pid: process.pid, ...owner })}\n`);
  return {
    path,
    release() {
      for (const entry of ["dev.json", "tmp", OWNER]) rmSync(join(path, entry), { recursive: true, force: true });
      lock.close();
    },
  };
}

/** Marks the folder as ours. Refuses a folder without our mark that contains files with our names. */
function claim(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    if (existsSync(join(path, MARK))) return;
    const theirs = readdirSync(path).filter((name) => ENTRIES.includes(name));
    if (theirs.length > 0) {
      throw new StateError(
        `${path} holds ${theirs.join(", ")}, and no ${MARK}: it is not Portico's. Nothing was touched. Choose another STATE_DIR.`,
      );
    }
    writeFileSync(join(path, MARK), MARK_TEXT);
  } catch (error) {
    if (error instanceof StateError) throw error;
    throw new StateError(`STATE_DIR ${path} cannot be used: ${messageOf(error)}`);
  }
}

function ownerOf(path: string): string {
  try {
    const { pid, url }: { pid: number; url: string } = JSON.parse(readFileSync(join(path, OWNER), "utf8"));
    return `process ${pid}, ${url}`;
  } catch {
    // The other instance is just starting or ending; the lock decides.
    return "which is starting or ending";
  }
}
