import type { Command } from "commander";
import { expect, test } from "vitest";
import { placesOf } from "../../cli/completion.ts";
import { makeProgram } from "../../cli/program.ts";
import { portico, run } from "./command.ts";

/** The words that bash offers at the end of this line. */
async function offered(line: string): Promise<string[]> {
  const { out: script } = await portico(["completion", "bash"]);
  const words = line.split(" ");
  const typed = words.map((word) => `'${word}'`).join(" ");
  const asking = `${script}\nCOMP_WORDS=(${typed}); COMP_CWORD=${words.length - 1}; _portico; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { code, out, err } = await run("bash", ["-c", asking], {});
  expect([code, err]).toEqual([0, ""]);
  return out.trimEnd().split("\n");
}

test("bash completes commands, subcommands and flags", async () => {
  expect(await offered("portico te")).toEqual(["tenants"]);
  expect(await offered("portico tenants e")).toEqual(["edit", "enable"]);
  expect(await offered("portico --json tenants edit studio --w")).toEqual(["--weight"]);
  expect(await offered("portico cards add portrait x --tr")).toEqual(["--transport"]);
  expect(await offered("portico status --w")).toEqual(["--watch"]);
  expect(await offered("portico completion f")).toEqual(["fish"]);
  expect(await offered("portico tenants show studio te")).toEqual([""]);
});

test("each shell's script contains every command, and only words that need no quoting", async () => {
  const places = placesOf(makeProgram());
  for (const words of places.values()) for (const word of words) expect(word).toMatch(/^[a-z][a-z-]*$|^--[a-z-]+$/);
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, out } = await portico(["completion", shell]);
    expect(code).toBe(0);
    for (const place of places.keys()) expect(out).toContain(place);
  }
  expect((await portico(["completion", "tcsh"])).code).toBe(2);
});

function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

function attributes(command: Command): string[] {
  return command.options.map((option) => option.attributeName());
}

test("no command redefines a global flag", () => {
  const program = makeProgram();
  for (const command of leaves(program))
    expect(attributes(command).filter((name) => attributes(program).includes(name))).toEqual([]);
});

test("every command has help with an example", () => {
  for (const command of leaves(makeProgram())) {
    let help = "";
    command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
    expect(help, command.name()).toMatch(/Example:\n {2}\$ /);
  }
});
