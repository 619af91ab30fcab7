/**
 * The simulated users. In closed loop, each user sends a request, waits for the whole answer, and sends the next; in
 * open loop, requests come at even intervals, independent of earlier ones. Clocks are monotonic. Each user has its own
 * connection and address. A request is determined by its user and turn alone, so every contender gets the same
 * requests.
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

/** Times as returned by `now()`. */
export interface Seen {
  from: number;
  until: number;
  samples: Sample[];
  /** When the caller of a request hung up, by the request's prompt. */
  left: Map<string, number>;
  /** Requests that arrived in the window and had no answer at its end. */
  open: number;
}

export interface Span {
  /** Excluded from the samples, ms. */
  warmUpMs: number;
  windowMs: number;
}

export interface Crowd extends Span {
  name: string;
  target: (user: number) => Target;
  users: number;
  /** Whether a refused user retries at once, ignoring `Retry-After`. */
  isHasty: boolean;
  /** After how many ms the caller of a request hangs up; null: never. */
  leaves: (user: number, turn: number) => number | null;
  /** Time from any answer to the next request, ms; `Retry-After` is then ignored. 0: no thinking. */
  thinkMs: number;
}

export interface Stream extends Span {
  name: string;
  target: (user: number) => Target;
  perSecond: number;
}

/** The path that all users request. */
const PICTURE_PATH = "/sdapi/v1/txt2img";
/**
 * The longest wait after an error without a `Retry-After`. The actual wait is pseudo-random: with a fixed wait, all
 * users that are cut off at once would return together, after the cards have finished their ghosts.
 */
const RETRY_MS_MAX = 1_000;

/** Monotonic milliseconds since the epoch; the same clock as the cards'. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** A pseudo-random number from 0 to 1, the same for the same user and turn in every run. */
export function dice(user: number, turn: number): number {
  let hash = Math.imul(user + 1, 0x9e3779b1) ^ Math.imul(turn + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
  return ((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32;
}

/** A request for a small picture; its prompt identifies it at the cards. */
export function pictureOf(prompt: string, headers: Target["headers"]): Buffer {
  return post(PICTURE_PATH, headers, JSON.stringify({ prompt, width: 64, height: 64, steps: 1 }));
}

const addressOf = (user: number) => `127.0.${1 + Math.floor(user / 250)}.${1 + (user % 250)}`;

/** Ends with the window, while requests are still in flight. `atEnd` reads the cards before the connections are cut. */
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
  // Staggered starts, as if the users had been active for a long time.
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

/**
 * Open loop. Requests are timed from when they were due, so that a late load generator does not improve the figures.
 */
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
