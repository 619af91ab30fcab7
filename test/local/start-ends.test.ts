import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { temporaryFolders } from "../support/folders.ts";
import { end, END_MS_MAX, endAllLocal, freePort, startLocal } from "../support/local.ts";
import { ended } from "../support/processes.ts";

const STARTS_MS_MAX = 80_000;

const newFolder = temporaryFolders();
afterAll(endAllLocal);

test("a port in use is reported with a way to choose another", async () => {
  const server = createServer();
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const local = startLocal({ port, stateDir: join(newFolder(), "state") });
  expect(await local.exit).toBe(1);
  server.close();
  expect(local.output()).toBe(`Port ${port} on 127.0.0.1 is taken. Choose another: PORT=${port + 1} npm start\n`);
});

test("an unknown option is reported, and nothing starts", async () => {
  const stateDir = join(newFolder(), "state");
  const local = startLocal({ port: await freePort(), stateDir, args: ["--nosim"] });
  expect(await local.exit).toBe(2);
  expect(local.output()).toContain("Unknown option --nosim");
  expect(existsSync(stateDir)).toBe(false);
});

test(
  "npm start ends with a failure when the simulated cards die",
  async () => {
    const local = startLocal({ port: await freePort(), stateDir: join(newFolder(), "state") });
    await local.ready();
    const family = local.family();
    const cards = family.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("sim/main.ts"));
    if (cards === undefined) throw new Error("no simulated cards run");
    process.kill(cards, "SIGKILL");
    expect(await local.exit).toBe(1);
    expect(local.output()).toContain("The simulated cards ended with SIGKILL");
    for (const pid of family) expect(await ended(pid, END_MS_MAX)).toBe(true);
  },
  STARTS_MS_MAX,
);

test(
  "killing npm ends all its processes",
  async () => {
    const local = startLocal({
      port: await freePort(),
      stateDir: join(newFolder(), "state"),
      args: ["--no-sim"],
      npm: true,
    });
    await local.ready();
    expect(await end(local, "SIGKILL")).toBe("SIGKILL");
  },
  STARTS_MS_MAX,
);

test(
  "Ctrl-C at npm shuts down in order, even before it is ready",
  async () => {
    const stateDir = join(newFolder(), "state");
    const local = startLocal({ port: await freePort(), stateDir, npm: true });
    while (!local.output().includes("Worker built")) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await end(local, "SIGINT")).toBe(0);
    expect(existsSync(join(stateDir, "dev.json"))).toBe(false);
  },
  STARTS_MS_MAX,
);
