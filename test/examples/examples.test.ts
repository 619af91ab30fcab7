/** Runs the examples unchanged, where the machine has the commands that they need. */
import { execFile, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../../local/root.ts";
import { doorway } from "../contract/doorway.ts";
import { temporaryFolders } from "../support/folders.ts";

const RUN_MS_MAX = 60_000;
const run = promisify(execFile);
const door = doorway();
const folders = temporaryFolders();

const EXAMPLES: [example: string, command: string, made: string, says: RegExp[]][] = [
  [
    "openai.mjs",
    process.execPath,
    "tide.wav",
    [/models: .*portrait/, /picture: http/, /image_generation\.completed/, /refused: 404 404 The model 'nobody'/],
  ],
  [
    "replicate.mjs",
    process.execPath,
    "tide-in.wav",
    [/picture: http/, /at night: http/, /event: output http[^]*event: done \{\}/, /refused: 404 .*portico\/nobody/],
  ],
  [
    "fal.mjs",
    process.execPath,
    "boats.wav",
    [/picture: http/, /state: COMPLETED/, /edited: http/, /refused: 404 Application 'portico\/nobody' not found/],
  ],
  ["curl.sh", "sh", "hello.wav", [/"url":"http/, /fwd=miss; stored[^]*portico; hit/]],
  ["python.py", "python3", "word.wav", [/picture: .*lighthouse\.png made by gpu-/, /sound: first \d+ bytes/]],
];

/** Only Node is certain to be installed. */
const has = (command: string): boolean => spawnSync(command, ["--version"]).error === undefined;
const runnable = EXAMPLES.filter(([example, command]) => has(example === "curl.sh" ? "curl" : command));

test.each(runnable)("examples/%s runs unchanged", { timeout: RUN_MS_MAX }, async (example, command, made, says) => {
  const folder = folders();
  const { url } = door.portico;
  const dev = { url, admin_token: "", api_key: door.ownKey, services: ["portrait", "cosyvoice2"] };
  await writeFile(join(folder, "dev.json"), JSON.stringify(dev));
  const { stdout } = await run(command, [join("examples", example)], {
    cwd: ROOT,
    env: { ...process.env, STATE_DIR: folder },
    timeout: RUN_MS_MAX,
  });
  for (const line of says) expect(stdout).toMatch(line);
  expect((await readFile(join(folder, made))).toString("latin1", 0, 4)).toBe("RIFF");
});
