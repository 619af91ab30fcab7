import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { LogFile } from "../../local/log.ts";
import { temporaryFolders } from "../support/folders.ts";

const newFolder = temporaryFolders();
const entry = (message: string, level = "log", timestamp = 0) => ({ level, message, timestamp });

test("JSON lines of the Worker are kept unchanged, and other lines become JSON", () => {
  const path = join(newFolder(), "log");
  const log = new LogFile(path, () => {});
  log.write(entry('{"status":200}'));
  log.write(entry("plain\nwords", "warn"));
  log.close();
  const [first, second] = readFileSync(path, "utf8").trimEnd().split("\n");
  expect(first).toBe('{"status":200}');
  expect(JSON.parse(second ?? "")).toEqual({ at: "1970-01-01T00:00:00.000Z", level: "warn", message: "plain\nwords" });
});

test("the log and its predecessor each stay within the limit, and the latest lines are kept", () => {
  const path = join(newFolder(), "log");
  const log = new LogFile(path, () => {}, 1000);
  for (let i = 0; i < 500; i++) log.write(entry(`{"line":${i}}`));
  log.close();
  expect(statSync(path).size).toBeLessThanOrEqual(1000);
  expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(1000);
  expect(readFileSync(path, "utf8").trimEnd().split("\n").at(-1)).toBe('{"line":499}');
});

test("an existing log is appended to", () => {
  const path = join(newFolder(), "log");
  for (const line of ['{"n":1}', '{"n":2}']) {
    const log = new LogFile(path, () => {});
    log.write(entry(line));
    log.close();
  }
  expect(readFileSync(path, "utf8")).toBe('{"n":1}\n{"n":2}\n');
});

test("warnings and errors are shown on the terminal, up to a limit per window", () => {
  const shown: string[] = [];
  const log = new LogFile(join(newFolder(), "log"), (line) => shown.push(line));
  log.write(entry("quiet"));
  for (let i = 0; i < 100; i++) log.write(entry(`trouble ${i}`, "error", 1_000_000));
  expect(shown).toHaveLength(21);
  expect(shown[0]).toBe("error: trouble 0");
  expect(shown[20]).toContain("more of them in");
  log.write(entry("later", "warn", 1_010_001));
  expect(shown.at(-1)).toBe("warn: later");
  log.close();
});

test("a warning of the Worker is shown as a sentence with advice, and the file keeps the original line", () => {
  const shown: string[] = [];
  const path = join(newFolder(), "log");
  const log = new LogFile(path, (line) => shown.push(line));
  const lost =
    '{"event":"origin_lost","card":"gpu-01-0","request":"req_1","error":"Error: internal error; reference = x"}';
  log.write(entry(lost, "warn"));
  log.write(entry('{"event":"webhook_given_up","delivery":"whd_1","state":"failed","tries":8}', "warn"));
  log.write(entry('{"event":"card_unreachable","card":"gpu-01-0","error":"Error: x","at":3,"stack":"a\\nb"}', "error"));
  log.close();
  expect(shown).toEqual([
    "warn: Card gpu-01-0 closed the connection before it answered. Check that its server is running, and see its log.",
    "warn: Webhook whd_1 was given up after 8 attempts. Check the receiver, then replay it.",
    "error: card unreachable (card: gpu-01-0, error: Error: x, at: 3)",
  ]);
  expect(readFileSync(path, "utf8").split("\n")[0]).toBe(lost);
});
