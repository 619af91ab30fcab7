/** The command-line options of `npm run bench`. */
import { parseArgs } from "node:util";
import { casesOf, type Case, type Lengths } from "./cases.ts";
import { CONTENDERS, type Contender } from "./contenders.ts";

export const USAGE = `npm run bench -- [OPTIONS]
  --quick             short windows and fewer cases: two minutes instead of a quarter of an hour; without restart and
                      old-load, which cannot be short
  --only NAMES        contenders, all but nginx-hasty unless named: ${CONTENDERS.map(({ name }) => name).join(", ")}
  --cases GROUPS      closed, open, hang-up, restart, sick, one-caller, old-load
  --users NUMBERS     of the closed loops; 12,50,100,200
  --name NAME         of the files in bench/results; side-by-side, quick for --quick, part for a part
  --draw NAME         draws the plots of kept results anew, and measures nothing`;

export class UsageError extends Error {}

export interface Options {
  name: string;
  contenders: Contender[];
  cases: Case[];
  lengths: Lengths;
  /** Requests of the single caller through each contender; 0: not measured. */
  rounds: number;
  /** Whether the older stack's load is measured as well. */
  oldLoad: boolean;
}

const GROUPS = ["closed", "open", "hang-up", "restart", "sick", "one-caller", "old-load"];
/** Groups that need a whole lease life, or a full line in front of one card. */
const LONG = new Set(["restart", "old-load"]);
const USERS_MAX = 2_000;

const FULL = {
  users: [12, 50, 100, 200],
  lengths: { warmUpMs: 3_000, windowMs: 15_000, shortWindowMs: 10_000, beforeKillMs: 6_000 },
  rounds: 250,
  groups: GROUPS,
  /** Variants that are measured only when named. */
  without: new Set(["nginx-hasty"]),
};
const QUICK: typeof FULL = {
  users: [12, 50],
  lengths: { warmUpMs: 1_200, windowMs: 2_200, shortWindowMs: 1_600, beforeKillMs: 3_000 },
  rounds: 40,
  groups: GROUPS.filter((group) => !LONG.has(group)),
  without: new Set(["haproxy-abort", "nginx-hasty"]),
};

/** Returns a name to draw, the options of a run, or null when the usage was requested. */
export function readOptions(args: readonly string[]): Options | { draw: string } | null {
  const values = parsed(args);
  if (values.help === true) return null;
  if (values.draw !== undefined) return { draw: plainName(values.draw) };
  const shape = values.quick === true ? QUICK : FULL;
  const groups = listOf("cases", values.cases, GROUPS) ?? shape.groups;
  const names = CONTENDERS.map(({ name }) => name);
  const only = listOf("only", values.only, names) ?? names.filter((name) => !shape.without.has(name));
  const users = values.users === undefined ? shape.users : values.users.split(",").map(userCount);
  const isPart = [values.cases, values.only, values.users].some((value) => value !== undefined);
  return {
    name: plainName(values.name ?? (isPart ? "part" : shape === QUICK ? "quick" : "side-by-side")),
    contenders: CONTENDERS.filter(({ name }) => only.includes(name)),
    cases: casesOf(users).filter(({ group }) => groups.includes(group)),
    lengths: shape.lengths,
    rounds: groups.includes("one-caller") ? shape.rounds : 0,
    oldLoad: groups.includes("old-load"),
  };
}

function parsed(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = { quick: flag, help: flag, only: text, cases: text, users: text, name: text, draw: text };
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function listOf(option: string, value: string | undefined, known: readonly string[]): string[] | null {
  if (value === undefined) return null;
  const names = value.split(",");
  const strange = names.find((name) => !known.includes(name));
  if (strange !== undefined) throw new UsageError(`--${option}: "${strange}" is none of ${known.join(", ")}`);
  return names;
}

function userCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > USERS_MAX)
    throw new UsageError(`--users wants numbers from 1 to ${USERS_MAX}, not "${text}"`);
  return count;
}

function plainName(name: string): string {
  if (!/^[\w-]{1,40}$/.test(name)) throw new UsageError(`"${name}" is no name for a file`);
  return name;
}
