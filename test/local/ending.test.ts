import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";

/** A process with two steps to its end; it says "up" when it listens for signals. */
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

test("what was started last ends first, and a step that fails holds up no other", async () => {
  const { child, said } = await endingProcess(`
    ending.add(() => console.log("first"));
    ending.add(() => { throw new Error("stuck"); });
    ending.add(async () => console.log("last"));`);
  child.kill("SIGTERM");
  expect((await codeOf(child)).code).toBe(0);
  expect(said().trim().split("\n")).toEqual(["up", "Stopping ...", "last", "While ending: stuck", "first"]);
});

test("one Ctrl-C that comes twice is one; a second one ends at once", async () => {
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

test("an end that hangs is over within 5 s", async () => {
  const { child } = await endingProcess("ending.add(() => new Promise(() => {}));");
  child.kill("SIGINT");
  const { code, ms } = await codeOf(child);
  expect(code).toBe(0);
  expect(ms).toBeLessThan(5_000);
});

test("the end of the process that started it is an end too", async () => {
  const { child } = await endingProcess("", ["ignore", "pipe", "inherit", "ipc"]);
  child.disconnect();
  expect((await codeOf(child)).code).toBe(0);
});
