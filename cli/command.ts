/** What all commands share: how a command is described, what its action receives, and how it prints its answer. */
import { Command } from "commander";
import { Api, type List, type Query } from "./api.ts";
import { findDeployment, type Flags } from "./deployment.ts";
import { type Columns, fields, table } from "./table.ts";
import { count } from "./values.ts";

const ROWS = 1000;

export interface Front {
  api: Api;
  /** Whether to print JSON for programs. */
  json: boolean;
  /** Prints `value` as JSON for programs (nothing if null), or else the text for people. */
  answer(this: void, value: unknown, text: () => string): void;
  /** Prints a note for people to standard error. */
  note(this: void, text: string): void;
}

interface Global extends Flags {
  json?: boolean;
}

export interface Rows {
  rows: number;
}
export interface Yes {
  yes?: boolean;
}

/** Adds a command; an example is required. */
export function leaf(parent: Command, usage: string, description: string, example: string): Command {
  return parent.command(usage).description(description).addHelpText("after", `\nExample:\n  $ portico ${example}`);
}

/** Adds a `list` command. */
export function listing(parent: Command, description: string, example: string): Command {
  return withRows(leaf(parent, "list", description, example));
}

export function withRows(command: Command): Command {
  return command.option("--rows <n>", "show at most this many rows", count, ROWS);
}

/** Adds `--yes` to a command that asks for confirmation. */
export function destructive(command: Command): Command {
  return command.option("-y, --yes", "do not ask first");
}

/** Makes a command's action from a function that takes the command's arguments, then its options. */
export function acting(work: (front: Front, ...args: never[]) => Promise<void>) {
  return async function act(this: Command, ...args: unknown[]): Promise<void> {
    const { json = false, ...flags }: Global = this.optsWithGlobals();
    const api = new Api(await findDeployment(flags, process.env));
    // commander passes the command itself last. The types of the other arguments follow from the command's description.
    await work({ api, json, answer: answering(json), note }, ...(args.slice(0, -1) as never[]));
  };
}

function answering(json: boolean): Front["answer"] {
  return (value, text) => {
    if (!json) process.stdout.write(`${text()}\n`);
    else if (value !== null) process.stdout.write(`${JSON.stringify(value)}\n`);
  };
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export interface Listed<Row> {
  path: string;
  rows: number;
  query?: Query;
  columns: Columns<Row>;
}

export async function showList<Row>(front: Front, { path, rows, query, columns }: Listed<Row>): Promise<void> {
  const list = await front.api.all<List<Row>>(path, rows, query);
  front.answer(list, () => (list.data.length === 0 ? "There are none." : table(list.data, columns)));
  if (list.next_cursor !== null) noteCut(front, rows);
}

export function noteCut(front: Front, rows: number): void {
  front.note(`Only the first ${rows} rows are shown; for more, add --rows N.`);
}

export function showThing(front: Front, thing: object, forPeople = thing): void {
  front.answer(thing, () => fields(forPeople));
}

/** Prints an answer that contains a new key or token, which the API does not show again. */
export function showSecret(front: Front, thing: object, forPeople = thing): void {
  showThing(front, thing, forPeople);
  front.note("Keep it now: it is not shown again.");
}
