/** Which requests a Pool admits, and what estimate it gives to those it refuses. */
import { expect, test } from "vitest";
import { Addresses } from "../../durable-objects/addresses.ts";
import * as admission from "../../durable-objects/admission.ts";
import { Cards } from "../../durable-objects/choose-card.ts";
import type { BreakerState } from "../../durable-objects/card-protocol.ts";
import type { Entry } from "../../durable-objects/pool-protocol.ts";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { entryOf } from "./room-model.ts";

const NOW = 1_000_000_000;
const SERVICE = "portrait";
const CLOSED: BreakerState = { state: "closed", untilAt: 0, reason: null };
const STALE_MS = 600_000;

/** Two slots; runs take two seconds, with the first byte after half a second. */
function hallOf(more: Partial<admission.AdmissionState> = {}, gate: BreakerState = CLOSED): admission.AdmissionState {
  const cards = new Cards(SERVICE);
  cards.configure([{ card: "x", weight: 1 }], NOW);
  const report = { card: "x", incarnation: 1, seq: 1, version: 1, slots: 2, state: "active" as const, lastNumber: 0 };
  cards.report({ ...report, held: [], gates: { [SERVICE]: gate } }, NOW);
  const queue = { max: 3, timeoutMs: 60_000 };
  return {
    config: { version: 1, service: SERVICE, paused: false, queue, cards: [{ card: "x", weight: 1 }] },
    room: new WaitingRoom(),
    followers: { count: 0, countOf: () => 0 },
    addresses: new Addresses(),
    cards,
    times: { firstByteMs: 500, totalMs: 2_000, count: 20, at: NOW },
    now: NOW,
    ...more,
  };
}

function waiting(hall: admission.AdmissionState, count: number, tenant = "a"): void {
  for (let i = 0; i < count; i++) hall.room.enter(entryOf(`${tenant} ${i}`, tenant, { arrivedAt: i }));
}

test("a paused pool and a pool without a healthy card admit no request; a healthy pool does", () => {
  expect(admission.closed(hallOf())).toBeNull();
  const { config } = hallOf();
  expect(admission.closed(hallOf({ config: { ...config, paused: true } }))).toEqual({
    reason: "paused",
    retryAfterMs: 15_000,
  });
  const open: BreakerState = { state: "open", untilAt: NOW + 7_000, reason: "origin_reset", proven: true };
  const expected = { reason: "no_healthy_card", cause: "origin_reset", retryAfterMs: 7_000 };
  expect(admission.closed(hallOf({}, open))).toEqual(expected);
  const soon = { ...open, untilAt: NOW + 20 };
  expect(admission.closed(hallOf({}, soon))).toMatchObject({ retryAfterMs: 1_000 });
  expect(admission.closed(hallOf({}, { ...open, untilAt: Infinity }))).toMatchObject({ retryAfterMs: 15_000 });
});

test("a tenant's limit on waiting requests counts both those in line and those that follow others' runs", () => {
  const entry = entryOf("a 1", "a", { waiting: 3 });
  const hall = hallOf({ followers: { count: 2, countOf: (tenant) => (tenant === "a" ? 2 : 0) } });
  waiting(hall, 1);
  expect(admission.tooManyOfTenant(hall, entry)).toBeNull();
  waiting(hall, 2);
  const refusal = { reason: "concurrency", of: "tenant", waiting: 3, max: 3, retryAfterMs: 4_000 };
  expect(admission.tooManyOfTenant(hall, entry)).toEqual(refusal);
});

test("the limit per client address holds, and a request without that limit is not counted against it", () => {
  const hall = hallOf();
  const [unlimited, limited] = [entryOf("a", "a"), entryOf("a", "a", { address: "here", perAddress: 2 })];
  for (const request of ["1", "2"]) hall.addresses.add({ ...limited, request });
  expect([admission.tooManyOfAddress(hall, limited), admission.tooManyOfAddress(hall, unlimited)]).toEqual([
    null,
    null,
  ]);
  hall.addresses.add({ ...limited, request: "3" });
  const refusal = { reason: "concurrency", of: "address", waiting: 2, max: 2, retryAfterMs: 3_000 };
  expect(admission.tooManyOfAddress(hall, limited)).toEqual(refusal);
});

test("the room's maximum counts followers but not the newcomer", () => {
  const hall = hallOf();
  waiting(hall, 3);
  expect(admission.queueFull(hall)).toBeNull();
  waiting(hall, 4);
  expect(admission.queueFull(hall)).toEqual({ reason: "queue_full", length: 3, max: 3, retryAfterMs: 4_000 });
  const followed = hallOf({ followers: { count: 3, countOf: () => 0 } });
  waiting(followed, 1);
  expect(admission.queueFull(followed)).toMatchObject({ reason: "queue_full", length: 3 });
});

const at = (deadlineAt: number | null) => entryOf("a 0", "a", { deadlineAt });
/** An entry for the tenant's fourth request. */
const own = (more: Partial<Entry>) => entryOf("a 3", "a", { arrivedAt: 3, ...more });

test("a deadline before an immediate run's first byte is hopeless; without deadline or estimate nothing is", () => {
  expect(admission.deadlineMissed(hallOf(), at(NOW + 500))).toBeNull();
  expect(admission.deadlineMissed(hallOf(), at(NOW + 499))).toMatchObject({
    reason: "deadline_unmeetable",
    estimateMs: 500,
  });
  expect(admission.deadlineMissed(hallOf(), at(null))).toBeNull();
  expect(admission.deadlineMissed(hallOf({ times: null }), at(NOW - 1))).toBeNull();
  expect(admission.deadlineMissed(hallOf({ now: NOW + STALE_MS + 1 }), at(NOW))).toBeNull();
});

test("a deadline is checked against the line ahead, and against the tenant's own slots when they are in use", () => {
  const hall = hallOf();
  waiting(hall, 4);
  // Three ahead of it and itself, two at a time, two seconds each; then half a second.
  expect(admission.deadlineUnmeetable(hall, own({ deadlineAt: NOW + 4_500 }))).toBeNull();
  const late = { reason: "deadline_unmeetable", estimateMs: 4_500, retryAfterMs: 4_000 };
  expect(admission.deadlineUnmeetable(hall, own({ deadlineAt: NOW + 4_499 }))).toEqual(late);
  expect(admission.deadlineUnmeetable(hall, own({ deadlineAt: null }))).toBeNull();
  expect(admission.deadlineUnmeetable(hallOf({ times: null }), own({ deadlineAt: NOW - 1 }))).toBeNull();
  hall.cards.offered("x", "running", "a", NOW);
  // One of the tenant's own at a time: four runs of two seconds.
  const capped = admission.deadlineUnmeetable(hall, own({ deadlineAt: NOW + 8_499, concurrent: 1 }));
  expect(capped).toMatchObject({ reason: "deadline_unmeetable", estimateMs: 8_500 });
});

test("a request that timed out in line is told how long it waited, which is never negative", () => {
  const hall = hallOf();
  waiting(hall, 1);
  expect(admission.waitedOut(hall, entryOf("a 0", "a", { arrivedAt: NOW - 60_000 }))).toEqual({
    reason: "queue_timeout",
    waitedMs: 60_000,
    retryAfterMs: 2_000,
  });
  expect(admission.waitedOut(hall, entryOf("a 0", "a", { arrivedAt: NOW + 5 }))).toMatchObject({ waitedMs: 0 });
});
