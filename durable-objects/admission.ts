/**
 * Decides whether a Pool admits a request, and estimates the Retry-After of a refusal. Pure.
 *
 * Order of the checks: `closed` (no card takes work), `deadlineMissed` (even an immediate start would be too late),
 * `tooManyOfAddress` (too many requests from its client address). The request then joins the queue, and unless it is
 * offered a card at once, these follow: `tooManyOfTenant` (too many requests of its tenant), `queueFull` (the queue is
 * full), `deadlineUnmeetable` (the wait is too long for its deadline).
 */
import type { Addresses } from "./addresses.ts";
import type { Cards } from "./choose-card.ts";
import { known, startMs, type Times } from "./estimate.ts";
import type { Coalescer } from "./coalescer.ts";
import type { Entry, PoolConfig, PoolRefusal } from "./pool-protocol.ts";
import type { WaitingRoom } from "./waiting-room.ts";

/** Retry-After when there is no estimate yet. */
const RETRY_UNKNOWN_MS = 2_000;
const RETRY_PAUSED_MS = 15_000;
const RETRY_MIN_MS = 1_000;

/** The Pool state that admission decisions read. */
export interface AdmissionState {
  config: PoolConfig;
  room: WaitingRoom;
  followers: Pick<Coalescer, "count" | "countOf">;
  addresses: Addresses;
  cards: Cards;
  times: Times | null;
  now: number;
}

/** Returns the reason why the Pool admits nothing new, or null. */
export function closed(state: AdmissionState): PoolRefusal | null {
  if (state.config.paused) return { reason: "paused", retryAfterMs: RETRY_PAUSED_MS };
  return state.cards.health(state.now) === "none" ? unhealthy(state) : null;
}

export function unhealthy({ cards, now }: AdmissionState): PoolRefusal {
  const { at, cause } = cards.nextTrial(now);
  const retryAfterMs = at === null ? RETRY_PAUSED_MS : Math.max(RETRY_MIN_MS, at - now);
  return { reason: "no_healthy_card", cause, retryAfterMs };
}

/** Refuses if too many requests from the client address are queued or running. The count includes the new request. */
export function tooManyOfAddress(state: AdmissionState, entry: Entry): PoolRefusal | null {
  return tooMany(state, "address", state.addresses.countOf(entry), entry.perAddress ?? Number.POSITIVE_INFINITY);
}

/** Refuses if too many requests of the tenant are queued or following a run. The count includes the new request. */
export function tooManyOfTenant(state: AdmissionState, entry: Entry): PoolRefusal | null {
  const waiting = state.room.callsOf(entry.tenant) + state.followers.countOf(entry.tenant);
  return tooMany(state, "tenant", waiting, entry.waiting);
}

function tooMany(state: AdmissionState, of: "tenant" | "address", count: number, max: number): PoolRefusal | null {
  if (count <= max) return null;
  return { reason: "concurrency", of, waiting: count - 1, max, retryAfterMs: drainMs(state, count - 1) };
}

/** Refuses if the queue is full. The new request is already in the queue; the count excludes it. */
export function queueFull(state: AdmissionState): PoolRefusal | null {
  const { max } = state.config.queue;
  const length = state.room.calls - 1 + state.followers.count;
  return length < max ? null : { reason: "queue_full", length, max, retryAfterMs: drainMs(state, length) };
}

/** Checks the caller's deadline against the time to the first byte alone: even an immediate start would be too late. */
export function deadlineMissed({ times, now }: AdmissionState, { deadlineAt }: Entry): PoolRefusal | null {
  const learned = known(times, now);
  if (deadlineAt === null || learned === null || now + learned.firstByteMs <= deadlineAt) return null;
  return { reason: "deadline_unmeetable", estimateMs: learned.firstByteMs, retryAfterMs: RETRY_UNKNOWN_MS };
}

/** Checks the caller's deadline against the whole estimate. Admits if there is no estimate. */
export function deadlineUnmeetable({ room, cards, times, now }: AdmissionState, entry: Entry): PoolRefusal | null {
  const learned = known(times, now);
  if (entry.deadlineAt === null || learned === null) return null;
  const line = startMs(learned, room.ahead(entry.attempt), cards.capacity(now)) ?? 0;
  const own = startMs(learned, room.lengthOf(entry.tenant) - 1, entry.concurrent) ?? 0;
  const isCapped = cards.holding(entry.tenant) >= entry.concurrent;
  const estimateMs = Math.max(line, isCapped ? own : 0) + learned.firstByteMs;
  if (now + estimateMs <= entry.deadlineAt) return null;
  return { reason: "deadline_unmeetable", estimateMs, retryAfterMs: line };
}

/** The refusal for a request that reached the queue timeout or its deadline while queued. */
export function waitedOut(state: AdmissionState, { arrivedAt }: Entry): PoolRefusal {
  const waitedMs = Math.max(0, state.now - arrivedAt);
  return { reason: "queue_timeout", waitedMs, retryAfterMs: drainMs(state, state.room.length) };
}

/** Estimated time to serve a queue of this length, ms. */
function drainMs({ times, cards, now }: AdmissionState, length: number): number {
  return startMs(times, length, cards.capacity(now)) ?? RETRY_UNKNOWN_MS;
}
