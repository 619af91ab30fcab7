import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";
import { makeTether } from "../../local/tether.ts";
import { temporaryFolders } from "../support/folders.ts";
import { ended, isRunning } from "../support/processes.ts";

const newFolder = temporaryFolders();
const SLEEP = "setInterval(() => {}, 1000); console.log(process.pid)";

/** Starts a process that tethers a sleeping child to itself and prints the child's pid. */
async function starter(): Promise<{ pid: number; child: number; kill(): void }> {
  const script = `
    import { execFileSync, spawn } from "node:child_process";
    import { makeTether } from ${JSON.stringify(join(ROOT, "local/tether.ts"))};
    const tether = makeTether(${JSON.stringify(newFolder())});
    spawn(tether.command, [process.execPath, "-e", ${JSON.stringify(SLEEP)}], {
      stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, ...tether.env } });
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(parent.stdout, "data");
  return { pid: parent.pid ?? 0, child: Number(String(line)), kill: () => parent.kill("SIGKILL") };
}

test("a tethered child ends when its parent is killed", async () => {
  const it = await starter();
  expect(isRunning(it.child)).toBe(true);
  it.kill();
  expect(await ended(it.child, 2_000)).toBe(true);
});

test("a tethered child ends only with its own parent", async () => {
  const [one, two] = await Promise.all([starter(), starter()]);
  one.kill();
  expect(await ended(one.child, 2_000)).toBe(true);
  expect(isRunning(two.child)).toBe(true);
  two.kill();
  expect(await ended(two.child, 2_000)).toBe(true);
});

test("cutting the tether kills the tethered child", async () => {
  const tether = makeTether(newFolder());
  if (tether === null) throw new Error("no named pipes here");
  const child = spawn(tether.command, [process.execPath, "-e", SLEEP], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...tether.env },
  });
  await once(child.stdout, "data");
  tether.cut();
  expect((await once(child, "exit"))[1]).toBe("SIGKILL");
});

test("a tethered command keeps its own pid, signals and exit code", async () => {
  const tether = makeTether(newFolder());
  if (tether === null) throw new Error("no named pipes here");
  const script = 'process.on("SIGTERM", () => process.exit(42)); setInterval(() => {}, 1000); console.log(process.pid)';
  const child = spawn(tether.command, [process.execPath, "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...tether.env },
  });
  expect(Number(String((await once(child.stdout, "data"))[0]))).toBe(child.pid);
  child.kill("SIGTERM");
  expect((await once(child, "exit"))[0]).toBe(42);
  tether.cut();
});

test("a command whose parent died before it started ends at once", async () => {
  const folder = newFolder();
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  const child = spawn(join(ROOT, "local/tether.sh"), [process.execPath, "-e", SLEEP], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, TETHER: pipe },
  });
  expect((await once(child, "exit"))[1]).toBe("SIGKILL");
});
