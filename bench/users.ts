/**
 * Users: in closed loop each sends, waits for the whole answer, and sends again; in open loop requests come at even
 * distances whatever becomes of the earlier ones. Clocks are monotonic. Each user has a connection and an address of its
 * own. What a request asks for hangs on its user and turn alone, so every contender is asked for the same.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Answer } from "./answer.ts";
import { post, Wire } from "./wire.ts";

export interface Target {
  port: number;
  headers: Readonly<Record<string, string>>;
}

/** A request that ended within the window. */
export interface Sample {
  user: number;
  /** When it ended. */
  at: number;
  ms: number;
  status: number;
}

/** Times are of `now()`. */
export interface Seen {
  from: number;
  until: number;
  samples: Sample[];
  /** When the caller of a request hung up, by its prompt. */
  left: Map<string, number>;
  /** Requests that arrived in the window and had no answer at its end. */
  open: number;
}

export interface Span {
  /** Left out of the samples, ms. */
  warmUpMs: number;
  windowMs: number;
}

export interface Crowd extends Span {
  name: string;
  target: (user: number) => Target;
  users: number;
  /** Whether a refused user sends again at once, whatever `Retry-After` says. */
  isHasty: boolean;
  /** After which time the caller of a request hangs up, ms; null: it stays. */
  leaves: (user: number, turn: number) => number | null;
  /** From one answer, whatever it says, to the next request, ms: `Retry-After` is not asked then. 0: none. */
  thinkMs: number;
}

export interface Stream extends Span {
  name: string;
  target: (user: number) => Target;
  perSecond: number;
}

/** What everybody asks for. */
const PICTURE_PATH = "/sdapi/v1/txt2img";
/**
 * The longest that a user waits after an error without a `Retry-After`; how long, the dice say: were it the same for
 * all, those whom one accident cuts off would all come back together, after the cards have done with their ghosts.
 */
const RETRY_MS_MAX = 1_000;

/** ms of the epoch that never step back: the same clock as the cards'. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** 0 to 1, the same for the same user and turn in every run. */
export function dice(user: number, turn: number): number {
  let hash = Math.imul(user + 1, 0x9e3779b1) ^ Math.imul(turn + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
  return ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32;
}

/** A request for a small picture; its prompt is what it is known by at the cards. */
export function pictureOf(prompt: string, headers: Target["headers"]): Buffer {
  return post(PICTURE_PATH, headers, JSON.stringify({ prompt, width: 64, height: 64, steps: 1 }));
}

const addressOf = (user: number) => `127.0.${1 + Math.floor(user / 250)}.${1 + (user % 250)}`;

/** Ends with the window, with requests still on the wires: whoever cuts them has looked at the cards before. */
export async function runCrowd(crowd: Crowd, atEnd: () => Promise<void>): Promise<Seen> {
  const seen = seenIn(crowd);
  const wires = Array.from({ length: crowd.users }, (_, id) => new Wire(crowd.target(id).port, addressOf(id)));
  const everyone = wires.map((wire, id) => closedLoop(crowd, seen, wire, id));
  await delay(seen.until - now());
  await atEnd();
  for (const wire of wires) wire.hangUp();
  await Promise.all(everyone);
  return seen;
}

function seenIn({ warmUpMs, windowMs }: Span): Seen {
  const from = now() + warmUpMs;
  return { from, until: from + windowMs, samples: [], left: new Map(), open: 0 };
}

async function closedLoop(crowd: Crowd, seen: Seen, wire: Wire, user: number): Promise<void> {
  const { headers } = crowd.target(user);
  // They come one after the other, as they would if they had been there for long.
  await pause((crowd.thinkMs * user) / crowd.users, seen.until);
  for (let turn = 0; now() < seen.until; turn++) {
    const prompt = `${crowd.name} user ${user} turn ${turn}`;
    const request = pictureOf(prompt, headers);
    const startedAt = now();
    const hangUpMs = crowd.leaves(user, turn);
    const leaving = hangUpMs === null ? null : setTimeout(() => leave(seen, wire, prompt), hangUpMs);
    const answer = await wire.send(request);
    if (leaving !== null) clearTimeout(leaving);
    if (seen.left.has(prompt)) continue;
    note(seen, user, startedAt, answer);
    if (crowd.thinkMs > 0) await pause(crowd.thinkMs, seen.until);
    else if (answer.status !== 200)
      await afterRefusal(crowd.isHasty, answer, dice(user, turn) * RETRY_MS_MAX, seen.until);
  }
}

function leave(seen: Seen, wire: Wire, prompt: string): void {
  seen.left.set(prompt, now());
  wire.hangUp();
}

function note(seen: Seen, user: number, startedAt: number, { status }: Answer): void {
  const endedAt = now();
  if (endedAt >= seen.from && endedAt <= seen.until) {
    seen.samples.push({ user, at: endedAt, ms: endedAt - startedAt, status });
  }
}

async function afterRefusal(
  isHasty: boolean,
  { status, retryAfterMs }: Answer,
  retryMs: number,
  until: number,
): Promise<void> {
  await pause(isHasty && status !== 0 ? 0 : (retryAfterMs ?? retryMs), until);
}

async function pause(ms: number, until: number): Promise<void> {
  const left = until - now();
  if (ms > 0 && left > 0) await delay(Math.min(ms, left));
}

/** Requests are timed from when they were due, so that a late generator cannot flatter anybody. */
export async function runStream(stream: Stream, atEnd: () => Promise<void>): Promise<Seen> {
  const seen = seenIn(stream);
  const begin = now();
  const wires: Wire[] = [];
  const idle: number[] = [];
  const underWay = new Set<Promise<void>>();
  for (let turn = 0; ; turn++) {
    const dueAt = begin + (turn * 1000) / stream.perSecond;
    if (dueAt >= seen.until) break;
    if (dueAt > now()) await delay(dueAt - now());
    const id = idle.pop() ?? wires.length;
    const target = stream.target(id);
    const wire = (wires[id] ??= new Wire(target.port, addressOf(id)));
    const one = (async () => {
      if (dueAt >= seen.from) seen.open++;
      const answer = await wire.send(pictureOf(`${stream.name} turn ${turn}`, target.headers));
      if (dueAt >= seen.from && now() <= seen.until) seen.open--;
      note(seen, id, dueAt, answer);
      idle.push(id);
    })();
    underWay.add(one);
    void one.then(() => underWay.delete(one));
  }
  await delay(Math.max(0, seen.until - now()));
  await atEnd();
  for (const wire of wires) wire.hangUp();
  await Promise.all(underWay);
  return seen;
}
