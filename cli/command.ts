/** What all commands share: how one is described, what its action is given, and where its answer goes. */
import { Command } from "commander";
import { Api, type List, type Query } from "./api.ts";
import { findDeployment, type Flags } from "./deployment.ts";
import { type Columns, fields, table } from "./table.ts";
import { count } from "./values.ts";

const ROWS = 1000;

export interface Front {
  api: Api;
  /** Whether the answer is for a program. */
  json: boolean;
  /** The API's own answer for programs (nothing where it has none), the text for people. */
  answer(this: void, value: unknown, text: () => string): void;
  /** For people alone, beside the answer. */
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

/** A command with an example, so that none is without. */
export function leaf(parent: Command, usage: string, description: string, example: string): Command {
  return parent.command(usage).description(description).addHelpText("after", `\nExample:\n  $ portico ${example}`);
}

/** A list's command. */
export function listing(parent: Command, description: string, example: string): Command {
  return withRows(leaf(parent, "list", description, example));
}

export function withRows(command: Command): Command {
  return command.option("--rows <n>", "show at most so many", count, ROWS);
}

/** A command that asks first. */
export function doubtful(command: Command): Command {
  return command.option("-y, --yes", "do not ask first");
}

/** The action of a command: its arguments, then its options. */
export function acting(work: (front: Front, ...args: never[]) => Promise<void>) {
  return async function act(this: Command, ...args: unknown[]): Promise<void> {
    const { json = false, ...flags }: Global = this.optsWithGlobals();
    const api = new Api(await findDeployment(flags, process.env));
    // commander puts the command itself last; what the others are it was told where the command is described.
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
  front.note(`Only the first ${rows} rows; there are more: --rows N.`);
}

export function showThing(front: Front, thing: object, forPeople = thing): void {
  front.answer(thing, () => fields(forPeople));
}

/** A new key or token stands in this answer and nowhere else. */
export function showSecret(front: Front, thing: object, forPeople = thing): void {
  showThing(front, thing, forPeople);
  front.note("Keep it now: it is not shown again.");
}
