import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { ROOT } from "../../local/root.ts";
import { GroundError } from "../../scripts/ground-error.mjs";
import { ground, isStamped, nodeOf } from "../../scripts/ground.mjs";
import { temporaryFolders } from "../support/folders.ts";

const newFolder = temporaryFolders();
const LOCKED = { "": { name: "clone" }, "node_modules/node": { version: "24.0.0", integrity: "sha512-a" } };

afterEach(() => {
  vi.unstubAllEnvs();
});

/**
 * A clone whose npm is a script: it records that it ran, waits a moment, and installs a package `node` whose binary is
 * the Node that runs this test.
 */
function clone({ npm = "", binary = true } = {}): string {
  const root = newFolder();
  writeLock(root, LOCKED);
  const install = `
    const { appendFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } = require("node:fs");
    appendFileSync("npm-ran", process.argv.slice(2).join(" ") + "\\n");
    ${npm}
    rmSync("node_modules", { recursive: true, force: true });
    setTimeout(() => {
      mkdirSync("node_modules/node/bin", { recursive: true });
      writeFileSync("node_modules/node/package.json", '{"version":"24.0.0"}');
      writeFileSync("node_modules/node/installArchSpecificPackage.js", "require('node:fs').symlinkSync(process.execPath, 'bin/node')");
      writeFileSync("node_modules/.package-lock.json", JSON.stringify({ packages: ${JSON.stringify(LOCKED)} }));
      ${binary ? `symlinkSync(process.execPath, "node_modules/node/bin/node");` : ""}
    }, 300);`;
  writeFileSync(join(root, "npm.js"), install);
  vi.stubEnv("npm_execpath", join(root, "npm.js"));
  return root;
}

function writeLock(root: string, packages: object): void {
  writeFileSync(join(root, "package-lock.json"), JSON.stringify({ lockfileVersion: 3, packages }));
}

function runs(root: string): number {
  const path = join(root, "npm-ran");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").length : 0;
}

const silent = () => {};

test("a fresh clone is installed once, and a second start installs nothing", async () => {
  const root = clone();
  expect(isStamped(root)).toBe(false);
  const said: string[] = [];
  expect(await ground(root, (line: string) => said.push(line))).toBe(join(root, "node_modules/node/bin/node"));
  expect(said[0]).toContain("npm ci");
  expect(runs(root)).toBe(1);

  const saidAgain: string[] = [];
  await ground(root, (line: string) => saidAgain.push(line));
  expect(saidAgain).toEqual([]);
  expect(runs(root)).toBe(1);
});

test("a changed lock file causes a new installation", async () => {
  const root = clone();
  await ground(root, silent);
  writeLock(root, { ...LOCKED, "node_modules/more": { version: "1.0.0", integrity: "sha512-b" } });
  expect(isStamped(root)).toBe(false);
  await ground(root, silent);
  expect(runs(root)).toBe(2);
});

test("an installation that somebody else made from the same lock file is accepted", async () => {
  const root = clone();
  await ground(root, silent);
  rmSync(join(root, "node_modules/.portico-stamp"));
  await ground(root, silent);
  expect(runs(root)).toBe(1);
  expect(isStamped(root)).toBe(true);
});

test("a removed node_modules is installed again", async () => {
  const root = clone();
  await ground(root, silent);
  rmSync(join(root, "node_modules"), { recursive: true });
  await ground(root, silent);
  expect(runs(root)).toBe(2);
});

test("an optional package that this platform does not need causes no new installation", async () => {
  const root = clone();
  await ground(root, silent);
  rmSync(join(root, "node_modules/.portico-stamp"));
  writeLock(root, {
    ...LOCKED,
    "node_modules/other-platform": { version: "1.0.0", integrity: "sha512-c", optional: true },
  });
  await ground(root, silent);
  expect(runs(root)).toBe(1);
});

test("concurrent starts install once", async () => {
  const root = clone();
  const script = `
    import { ground } from ${JSON.stringify(join(ROOT, "scripts/ground.mjs"))};
    await ground(${JSON.stringify(root)}, () => {});`;
  const starts = [1, 2, 3].map(
    () =>
      new Promise<number | null>((resolve) => {
        spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "ignore", "inherit"] }).on(
          "exit",
          resolve,
        );
      }),
  );
  expect(await Promise.all(starts)).toEqual([0, 0, 0]);
  expect(runs(root)).toBe(1);
  expect(existsSync(join(root, ".portico-install.lock"))).toBe(false);
});

test("the lock of a dead process does not block a start", async () => {
  const root = clone();
  const dead = spawn(process.execPath, ["-e", ""]);
  await new Promise((resolve) => dead.on("exit", resolve));
  writeFileSync(
    join(root, ".portico-install.lock"),
    JSON.stringify({ pid: dead.pid, host: hostname(), at: Date.now() }),
  );
  await ground(root, silent);
  expect(runs(root)).toBe(1);
});

test("a start waits for an npm that outlived the start before it", async () => {
  const root = clone();
  const start = `
    import { ground } from ${JSON.stringify(join(ROOT, "scripts/ground.mjs"))};
    await ground(${JSON.stringify(root)}, () => {});`;
  const killed = spawn(process.execPath, ["--input-type=module", "-e", start], { stdio: "ignore" });
  while (runs(root) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  killed.kill("SIGKILL");
  await ground(root, silent);
  expect(runs(root)).toBe(1);
  expect(isStamped(root)).toBe(true);
});

test("an old lock that nobody has touched does not block a start", async () => {
  const root = clone();
  const lock = join(root, ".portico-install.lock");
  writeFileSync(lock, JSON.stringify({ pid: 1, host: "another machine", at: 0 }));
  utimesSync(lock, new Date(Date.now() - 60_000), new Date(Date.now() - 60_000));
  await ground(root, silent);
  expect(runs(root)).toBe(1);
});

test("a failed npm ci is reported with its last lines and advice, and leaves no stamp", async () => {
  const root = clone({ npm: `console.error("npm error code EAI_AGAIN"); process.exit(7);` });
  const failure = await ground(root, silent).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(GroundError);
  expect(String(failure)).toContain("npm ci failed (exit code 7)");
  expect(String(failure)).toContain("npm error code EAI_AGAIN");
  expect(String(failure)).toContain("npm registry");
  expect(isStamped(root)).toBe(false);
  expect(existsSync(join(root, ".portico-install.lock"))).toBe(false);
});

test("a package `node` whose install script did not run gets its binary", async () => {
  const root = clone({ binary: false });
  // Old enough that the Node of this process cannot be used instead.
  const said: string[] = [];
  const present = vi.spyOn(process.versions, "node", "get").mockReturnValue("20.19.0");
  try {
    expect(await ground(root, (line: string) => said.push(line))).toBe(join(root, "node_modules/node/bin/node"));
  } finally {
    present.mockRestore();
  }
  expect(said.join("\n")).toContain("install script");
});

test("a binary that does not run here is reported, and leaves no stamp", async () => {
  const root = clone();
  await ground(root, silent);
  rmSync(join(root, "node_modules/.portico-stamp"));
  rmSync(join(root, "node_modules/node/bin/node"));
  writeFileSync(join(root, "node_modules/node/bin/node"), "#!/bin/sh\necho wrong libc >&2\nexit 127\n");
  chmodSync(join(root, "node_modules/node/bin/node"), 0o755);
  await expect(ground(root, silent)).rejects.toThrow(/does not run here \(wrong libc\)/);
  expect(isStamped(root)).toBe(false);
});

test("a Node below 20 is refused with the version that is needed", async () => {
  const present = vi.spyOn(process.versions, "node", "get").mockReturnValue("18.20.0");
  try {
    await expect(ground(clone(), silent)).rejects.toThrow("Portico needs Node 20 or newer; this is 18.20.0.");
  } finally {
    present.mockRestore();
  }
});

test("without an installation nodeOf() returns null", () => {
  const root = newFolder();
  mkdirSync(join(root, "node_modules"));
  expect(nodeOf(root)).toBe(null);
});
