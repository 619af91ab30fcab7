/**
 * The cases, and how one case is measured with one contender. Every case begins with idle cards and zeroed counts.
 * Peers begin it as new processes, so that no queue holds anything from the previous case.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { CardPark, Timing } from "./cards.ts";
import type { Contender, Door, Part } from "./contenders.ts";
import { figuresOf, type CardsSeen, type Figures } from "./figures.ts";
import { type Kill, type Recovery, recoveryOf } from "./recovery.ts";
import { dice, now, runCrowd, runStream, type Seen, type Span } from "./users.ts";

/** 300 ms +-30 %, determined by the request's own bytes. */
const TIMING: Timing = { service_ms: 300, jitter: 0.3 };
const LEAVING_SHARE = 0.3;
const SLOTS_OF_SICK_CARD = 2;

interface Common {
  name: string;
  title: string;
  /** Its title in lines short enough for a label under bars. */
  label: string;
  group: "closed" | "open" | "hang-up" | "sick" | "restart";
}

export type Case = Common &
  ({ kind: "crowd"; users: number; leaveAfterMs: number | null } | { kind: "stream"; perSecond: number });

export interface Row extends Figures {
  contender: string;
  case: string;
  /** Null for cases without a kill. */
  recovery: Recovery | null;
}

/** How long a case lasts, ms. */
export interface Lengths {
  warmUpMs: number;
  windowMs: number;
  /** For cases that count events rather than compare rates. */
  shortWindowMs: number;
  /** Time in the window before a kill; the contender's `recoveryMs` sets the time after it. */
  beforeKillMs: number;
}

const crowd = (group: Common["group"], users: number, leaveAfterMs: number | null, more: Partial<Common>): Case => ({
  name: `${group}-${users}`,
  title: `${users} users`,
  label: `${users} users`,
  ...more,
  group,
  kind: "crowd",
  users,
  leaveAfterMs,
});

const stream = (perSecond: number): Case => ({
  name: `open-${perSecond}`,
  title: `${perSecond} requests/s, open loop`,
  label: `${perSecond}/s\nopen loop`,
  group: "open",
  kind: "stream",
  perSecond,
});

const leaving = (users: number, ms: number): Case =>
  crowd("hang-up", users, ms, {
    name: `hang-up-${users}-${ms}`,
    title: `${users} users, 30 % hang up at ${ms} ms`,
    label: `${users} users\n30 % leave\nat ${ms} ms`,
  });

/** The number of users of contenders that take part in only one closed-loop case. */
const BOUND_USERS = 12;
const HASTY_USERS = 50;
const SICK: Common["group"] = "sick";

/** In this order: cases that affect a card's health state come last. */
export function casesOf(users: readonly number[]): Case[] {
  return [
    ...users.map((count) => crowd("closed", count, null, {})),
    stream(36),
    stream(60),
    leaving(50, 100),
    leaving(50, 400),
    leaving(12, 100),
    crowd("restart", 50, null, { title: "50 users, kill -9 and a start at once", label: "50 users\nkill -9" }),
    crowd(SICK, 50, null, { title: "50 users, one card answers 500", label: "50 users\none card\nsick" }),
  ];
}

/** Whether a contender takes part in a case. */
export function takesPart(part: Part, one: Case): boolean {
  if (part === "bound") return one.group === "closed" && one.kind === "crowd" && one.users === BOUND_USERS;
  if (part === "closed") return one.group === "closed" && one.kind === "crowd" && one.users === HASTY_USERS;
  return part === "all" || one.group === "hang-up";
}

export function spanOf(
  { group }: Case,
  { warmUpMs, windowMs, shortWindowMs, beforeKillMs }: Lengths,
  { recoveryMs }: Pick<Contender, "recoveryMs">,
): Span {
  if (group === "restart") return { warmUpMs, windowMs: beforeKillMs + recoveryMs };
  return { warmUpMs, windowMs: group === "hang-up" || group === SICK ? shortWindowMs : windowMs };
}

export async function measure(
  park: CardPark,
  contender: Contender,
  door: Door,
  one: Case,
  lengths: Lengths,
): Promise<Row> {
  await park.setTiming(TIMING);
  await park.settle();
  if (one.group === SICK) await park.sicken();
  let cards: CardsSeen | null = null;
  const atEnd = async (): Promise<void> => {
    cards = await park.seen();
  };
  const [seen, kill] = await Promise.all([
    load(contender, door, one, spanOf(one, lengths, contender), atEnd),
    one.group === "restart" ? killAfter(door, lengths.warmUpMs + lengths.beforeKillMs) : null,
  ]);
  if (one.group === SICK) await park.heal();
  if (cards === null) throw new Error("the cards were not looked at");
  const figures = figuresOf(seen, limited(cards, one), usersOf(one));
  const recovery = kill === null ? null : recoveryOf(seen, kill);
  return { contender: contender.name, case: one.name, ...figures, recovery };
}

async function killAfter(door: Door, ms: number): Promise<Kill> {
  await delay(ms);
  const killedAt = now();
  await door.restart();
  return { killedAt, upAt: now() };
}

function load(
  { isHasty }: Contender,
  { target }: Door,
  one: Case,
  span: Span,
  atEnd: () => Promise<void>,
): Promise<Seen> {
  const { name } = one;
  if (one.kind === "stream") return runStream({ name, target, perSecond: one.perSecond, ...span }, atEnd);
  const { users, leaveAfterMs } = one;
  const leaves = (user: number, turn: number) => (dice(user, turn) < LEAVING_SHARE ? leaveAfterMs : null);
  return runCrowd({ name, target, users, isHasty, leaves, thinkMs: 0, ...span }, atEnd);
}

/** A sick card's slots do not count towards the limit. */
function limited(cards: CardsSeen, { group }: Case): CardsSeen {
  return group === SICK ? { ...cards, slots: cards.slots - SLOTS_OF_SICK_CARD } : cards;
}

const usersOf = (one: Case): number | null => (one.kind === "crowd" ? one.users : null);
