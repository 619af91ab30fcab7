import { existsSync } from "node:fs";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { ask } from "../../cli/confirm.ts";
import { eventually } from "../line/caller.ts";
import { COMMAND, run } from "./command.ts";
import { scripted } from "./scripted.ts";

const SCRIPT = "/usr/bin/script";

async function asked(typed: string, name = "studio"): Promise<string> {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const told = text(output);
  input.end(typed);
  try {
    await ask({ what: "It goes.", name }, input, output);
    return "done";
  } catch (error) {
    return String(error);
  } finally {
    output.end();
    expect(await told).toContain(`It goes.\nType ${name.replaceAll(/\p{Cc}/gu, "\u{fffd}")} to go on: `);
  }
}

test("only the exact name confirms", async () => {
  expect(await asked("studio\n")).toBe("done");
  expect(await asked("  studio \n")).toBe("done");
  for (const typed of ["\n", "y\n", "yes\n", "Studio\n", "studio2\n", ""])
    expect(await asked(typed), JSON.stringify(typed)).toMatch(/Nothing was done/);
});

test("a name with control characters is confirmed by its displayed form", async () => {
  expect(await asked("a\u{fffd}b\n", "a\u{1}b")).toBe("done");
});

/** Runs the command on a terminal of its own and types `keys` once it asks. */
async function onTerminal(url: string, args: string, keys: string): Promise<{ code: number | string; out: string }> {
  const command = ["-qec", `"${process.execPath}" "${COMMAND}" ${args}`, "/dev/null"];
  const ran = run(SCRIPT, command, { url, token: "t", keep: true });
  await eventually("it asks", () => ran.said().includes("to go on:"));
  ran.child.stdin?.write(keys);
  return ran;
}

test.runIf(existsSync(SCRIPT))(
  "on a terminal the command asks, and Ctrl-C, Ctrl-D or a wrong name cancel it",
  async () => {
    const api = await scripted(({ call }) => (call.startsWith("DELETE") ? { status: 204 } : { body: {} }));
    for (const keys of ["other\r", "\u{3}", "\u{4}"]) {
      const { code, out } = await onTerminal(api.url, "keys revoke k1", keys);
      expect(code, out).toBe(1);
      expect(out).toContain("Key k1 will stop working within 10 s, for good.");
      expect(out).toContain("Nothing was done: the name does not match.");
      expect(api.heard).toEqual([]);
    }
    const { code, out } = await onTerminal(api.url, "keys revoke k1", "k1\r");
    expect(code, out).toBe(0);
    expect(api.heard.map(({ call }) => call)).toEqual(["DELETE /admin/v1/keys/k1"]);
    await api.stop();
  },
);
