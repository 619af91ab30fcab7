/**
 * Whom a Pool lets in, and with what estimate it sends others away. Pure.
 *
 * The order in which a newcomer is asked: `shut` (nothing takes work), `hopeless` (it cannot make its deadline even if
 * it starts at once), `swarm` (too many of its client address), then it stands in line, and unless it is offered a card
 * at once: `crowd` (too many of its tenant), `full` (no room), `late` (no time).
 */
import type { Addresses } from "./addresses.ts";
import type { Cards } from "./choose-card.ts";
import { known, startMs, type Times } from "./estimate.ts";
import type { Following } from "./following.ts";
import type { Entry, PoolConfig, PoolRefusal } from "./pool-protocol.ts";
import type { WaitingRoom } from "./waiting-room.ts";

/** Retry-After when nothing is known yet. */
const RETRY_UNKNOWN_MS = 2_000;
const RETRY_PAUSED_MS = 15_000;
const RETRY_MIN_MS = 1_000;

/** What a Pool looks at before it lets somebody in. */
export interface Hall {
  config: PoolConfig;
  room: WaitingRoom;
  followers: Pick<Following, "count" | "countOf">;
  addresses: Addresses;
  cards: Cards;
  times: Times | null;
  now: number;
}

/** Why nothing new comes in, or null. */
export function shut(hall: Hall): PoolRefusal | null {
  if (hall.config.paused) return { reason: "paused", retryAfterMs: RETRY_PAUSED_MS };
  return hall.cards.health(hall.now) === "none" ? unhealthy(hall) : null;
}

export function unhealthy({ cards, now }: Hall): PoolRefusal {
  const { at, cause } = cards.nextTrial(now);
  const retryAfterMs = at === null ? RETRY_PAUSED_MS : Math.max(RETRY_MIN_MS, at - now);
  return { reason: "no_healthy_card", cause, retryAfterMs };
}

/** Too many of its client address wait or run already; the newcomer is counted in. */
export function swarm(hall: Hall, entry: Entry): PoolRefusal | null {
  return tooMany(hall, "address", hall.addresses.countOf(entry), entry.perAddress ?? Number.POSITIVE_INFINITY);
}

/** Too many of its tenant wait already, in line or for somebody else's run; the newcomer is counted in. */
export function crowd(hall: Hall, entry: Entry): PoolRefusal | null {
  const waiting = hall.room.callsOf(entry.tenant) + hall.followers.countOf(entry.tenant);
  return tooMany(hall, "tenant", waiting, entry.waiting);
}

function tooMany(hall: Hall, of: "tenant" | "address", count: number, max: number): PoolRefusal | null {
  if (count <= max) return null;
  return { reason: "concurrency", of, waiting: count - 1, max, retryAfterMs: drainMs(hall, count - 1) };
}

/** No room; the newcomer stands in line already and is not counted. */
export function full(hall: Hall): PoolRefusal | null {
  const { max } = hall.config.queue;
  const length = hall.room.calls - 1 + hall.followers.count;
  return length < max ? null : { reason: "queue_full", length, max, retryAfterMs: drainMs(hall, length) };
}

/** The caller's own deadline, against the time to the first byte alone: a start that comes too late is none. */
export function hopeless({ times, now }: Hall, { deadlineAt }: Entry): PoolRefusal | null {
  const learned = known(times, now);
  if (deadlineAt === null || learned === null || now + learned.firstByteMs <= deadlineAt) return null;
  return { reason: "deadline_unmeetable", estimateMs: learned.firstByteMs, retryAfterMs: RETRY_UNKNOWN_MS };
}

/** The caller's own deadline, against the whole estimate; without an estimate it is let in. */
export function late({ room, cards, times, now }: Hall, entry: Entry): PoolRefusal | null {
  const learned = known(times, now);
  if (entry.deadlineAt === null || learned === null) return null;
  const line = startMs(learned, room.ahead(entry.attempt), cards.capacity(now)) ?? 0;
  const own = startMs(learned, room.lengthOf(entry.tenant) - 1, entry.concurrent) ?? 0;
  const isCapped = cards.holding(entry.tenant) >= entry.concurrent;
  const estimateMs = Math.max(line, isCapped ? own : 0) + learned.firstByteMs;
  if (now + estimateMs <= entry.deadlineAt) return null;
  return { reason: "deadline_unmeetable", estimateMs, retryAfterMs: line };
}

/** It stood in line as long as one may. */
export function waitedOut(hall: Hall, { arrivedAt }: Entry): PoolRefusal {
  const waitedMs = Math.max(0, hall.now - arrivedAt);
  return { reason: "queue_timeout", waitedMs, retryAfterMs: drainMs(hall, hall.room.length) };
}

/** Time in which a line of this length is served, by present knowledge. */
function drainMs({ times, cards, now }: Hall, length: number): number {
  return startMs(times, length, cards.capacity(now)) ?? RETRY_UNKNOWN_MS;
}
