/**
 * The front door alone, in a process of its own that a test can kill: no cards, no seed. Prints one JSON line when it
 * is ready: {"url","port"}. Arguments: STATE_DIR PORT BUNDLE. Everything else comes from the environment.
 */
import { readFile } from "node:fs/promises";
import { Ending } from "./ending.ts";
import { startRuntime } from "./runtime.ts";
import { loadSecrets } from "./secrets.ts";
import { takeStateDir } from "./state.ts";

const [stateDir, port, path] = process.argv.slice(2);
if (stateDir === undefined || port === undefined || path === undefined)
  throw new Error("serve.ts STATE_DIR PORT BUNDLE");

const vars: Record<string, string> = JSON.parse(process.env["PORTICO_VARS"] ?? "{}");
const ending = new Ending(() => {});
ending.listen();
const state = takeStateDir(stateDir, { url: `port ${port}` }, false);
ending.add(() => state.release());

const runtime = await startRuntime({
  bundle: { path, text: await readFile(path, "utf8") },
  host: "127.0.0.1",
  port: Number(port),
  stateDir,
  secrets: await loadSecrets(stateDir),
  vars,
  say: (line) => console.error(line),
  onCrash: () => console.error("the runtime crashed and was started again"),
});
ending.add(() => runtime.stop());
console.log(JSON.stringify({ url: runtime.url, port: runtime.port }));
