import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";
import { keepDemoKey, loadDemoKey, loadSecrets } from "../../local/secrets.ts";
import { takeStateDir } from "../../local/state.ts";
import { temporaryFolders } from "../support/folders.ts";

const newFolder = temporaryFolders();
const owner = { url: "http://127.0.0.1:1" };

test("a folder in use is refused until it is released", () => {
  const path = join(newFolder(), "state");
  const state = takeStateDir(path, owner, false);
  expect(() => takeStateDir(path, owner, false)).toThrow(
    `in use by another instance (process ${process.pid}, http://127.0.0.1:1)`,
  );
  state.release();
  takeStateDir(path, owner, false).release();
});

test("a folder is free at once after its process was killed", async () => {
  const path = newFolder();
  const script = `
    import { takeStateDir } from ${JSON.stringify(join(ROOT, "local/state.ts"))};
    takeStateDir(${JSON.stringify(path)}, { url: "x" }, false);
    console.log("taken");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  expect(() => takeStateDir(path, owner, false)).toThrow("in use");
  child.kill("SIGKILL");
  await once(child, "exit");
  takeStateDir(path, owner, false).release();
});

test("a start removes an old dev.json, and a release removes dev.json and instance.json", () => {
  const path = newFolder();
  takeStateDir(path, owner, false).release();
  writeFileSync(join(path, "dev.json"), "{}");
  const state = takeStateDir(path, owner, false);
  expect(existsSync(join(path, "dev.json"))).toBe(false);
  writeFileSync(join(path, "dev.json"), "{}");
  state.release();
  expect(existsSync(join(path, "dev.json"))).toBe(false);
  expect(existsSync(join(path, "instance.json"))).toBe(false);
});

test("--fresh removes only Portico's own files", async () => {
  const path = newFolder();
  takeStateDir(path, owner, false).release();
  const before = await loadSecrets(path);
  mkdirSync(join(path, "state", "v3"), { recursive: true });
  writeFileSync(join(path, "notes.txt"), "mine");
  takeStateDir(path, owner, true).release();
  expect(readdirSync(path).toSorted()).toEqual(["lock.sqlite", "notes.txt", "portico-state.txt"]);
  expect((await loadSecrets(path)).ADMIN_TOKEN).not.toBe(before.ADMIN_TOKEN);
});

test("a folder with foreign files of the same names is refused and left unchanged", () => {
  const path = newFolder();
  mkdirSync(join(path, "state"));
  writeFileSync(join(path, "state", "important"), "mine");
  for (const fresh of [false, true]) {
    expect(() => takeStateDir(path, owner, fresh)).toThrow(`${path} holds state, and no portico-state.txt`);
  }
  expect(readFileSync(join(path, "state", "important"), "utf8")).toBe("mine");
  expect(readdirSync(path)).toEqual(["state"]);
});

test("a path that cannot be a folder is reported", () => {
  const file = join(newFolder(), "file");
  writeFileSync(file, "");
  expect(() => takeStateDir(join(file, "x"), owner, false)).toThrow(/^STATE_DIR .* cannot be used/);
});

test("secrets are created once, long, distinct and readable only by their owner", async () => {
  const path = newFolder();
  const made = await loadSecrets(path);
  expect(await loadSecrets(path)).toEqual(made);
  expect(statSync(join(path, "secrets.json")).mode & 0o777).toBe(0o600);
  expect(readdirSync(path)).toEqual(["secrets.json"]);
  expect(made.URL_KEYS).toMatch(/^k1:[A-Za-z0-9_-]{43}$/);
  expect(new Set([made.ADMIN_TOKEN, made.KEY_SECRET, made.URL_KEYS.slice(3)]).size).toBe(3);
  expect(Math.min(made.ADMIN_TOKEN.length, made.KEY_SECRET.length)).toBeGreaterThanOrEqual(43);
});

test("the demo key is stored beside the secrets", async () => {
  const path = newFolder();
  const made = await loadSecrets(path);
  expect(await loadDemoKey(path)).toBe(null);
  const key = { tenant: "t", id: "k", key: "ptk" };
  await keepDemoKey(path, key);
  expect(await loadDemoKey(path)).toEqual(key);
  expect(await loadSecrets(path)).toEqual(made);
});
