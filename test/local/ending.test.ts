import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";

/** Starts a process that runs `steps`, listens for signals, and then prints "up". */
async function endingProcess(
  steps: string,
  stdio: ("ignore" | "pipe" | "inherit" | "ipc")[] = ["ignore", "pipe", "inherit"],
) {
  const script = `
    import { Ending } from ${JSON.stringify(join(ROOT, "local/ending.ts"))};
    const ending = new Ending((line) => console.log(line));
    ${steps}
    ending.listen();
    setInterval(() => {}, 1000);
    console.log("up");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio });
  let said = "";
  child.stdout?.on("data", (chunk) => (said += String(chunk)));
  if (child.stdout !== null) await once(child.stdout, "data");
  return { child, said: () => said };
}

async function codeOf(child: ChildProcess): Promise<{ code: number; ms: number }> {
  const from = Date.now();
  const [code] = await once(child, "exit");
  return { code: Number(code), ms: Date.now() - from };
}

test("steps end in reverse order, and a failing step does not stop the others", async () => {
  const { child, said } = await endingProcess(`
    ending.add(() => console.log("first"));
    ending.add(() => { throw new Error("stuck"); });
    ending.add(async () => console.log("last"));`);
  child.kill("SIGTERM");
  expect((await codeOf(child)).code).toBe(0);
  expect(said().trim().split("\n")).toEqual(["up", "Stopping ...", "last", "While ending: stuck", "first"]);
});

test("two Ctrl-C within 500 ms count as one; a later one ends the process at once", async () => {
  const { child } = await endingProcess("ending.add(() => new Promise(() => {}));");
  const exit = codeOf(child);
  child.kill("SIGINT");
  child.kill("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 800));
  expect(child.exitCode).toBe(null);
  child.kill("SIGINT");
  const { code, ms } = await exit;
  expect(code).toBe(130);
  expect(ms).toBeLessThan(2_500);
});

test("a shutdown that hangs ends within 5 s", async () => {
  const { child } = await endingProcess("ending.add(() => new Promise(() => {}));");
  child.kill("SIGINT");
  const { code, ms } = await codeOf(child);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(5_000);
});

test("the process shuts down when its parent disconnects", async () => {
  const { child } = await endingProcess("", ["ignore", "pipe", "inherit", "ipc"]);
  child.disconnect();
  expect((await codeOf(child)).code).toBe(0);
});
