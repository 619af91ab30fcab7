import { expect, test } from "vitest";
import type { CardReport, CardStatus, BreakerState, Held } from "../../../durable-objects/card-protocol.ts";
import type { PoolStatus } from "../../../durable-objects/pool-protocol.ts";
import type { CardRow } from "../../../worker/db/queries.ts";
import { clusterStatus, type Park } from "../../../worker/operate/cluster.ts";
import { cardReport } from "../../support/card-report.ts";

const NOW = Date.UTC(2026, 10, 20);

function card(id: string, more: Partial<CardRow> = {}): CardRow {
  return { id, server: null, gpu: null, slots: 2, state: "active", tokenHash: "", version: 1, createdAt: 0, ...more };
}

function held(service: string, number: number): Held {
  const state = number % 2 === 0 ? "draining" : "leased";
  return {
    number,
    attempt: `a${number}`,
    request: `r${number}`,
    tenant: "t",
    service,
    fingerprint: null,
    state,
    claimedAt: 0,
  };
}

const gate = (state: BreakerState["state"]): BreakerState => ({ state, untilAt: 0, reason: null });

/** A park with all these cards listed in all these services. */
function everywhere(services: string[], cards: CardRow[]): Park {
  const listings = services.flatMap((serviceId) =>
    cards.map(({ id }) => ({ serviceId, cardId: id, origin: "", transport: "direct" as const, weight: 1 })),
  );
  return { services, cards, listings };
}

function cardsSay(...reports: CardReport[]): Map<string, CardStatus> {
  const counters = { claims: 0, done: 0, failed: 0, orphaned: 0, reaped: 0, refused: 0, drained: 0, late: 0, stale: 0 };
  return new Map(reports.map((one) => [one.card, { report: one, heartbeat: null, counters, leases: [] }]));
}

function poolsSay(queued: Record<string, number>, reports: CardReport[] = []): Map<string, PoolStatus> {
  const rest = {
    version: 1,
    waitingFor: {},
    paused: false,
    oldestWaitMs: 0,
    reports,
    serviceMs: null,
    refused: {},
    admitted: 0,
  };
  return new Map(Object.entries(queued).map(([service, n]) => [service, { service, queued: n, ...rest }]));
}

test("a shared card's slots count once in total, and for each of its services", () => {
  const park = everywhere(
    ["a", "b"],
    [card("x", { server: "s1" }), card("y", { server: "s1" }), card("z", { server: "s2" })],
  );
  const x = cardReport("x", { held: [held("a", 1), held("b", 2)] });
  const status = clusterStatus(park, cardsSay(x, cardReport("y"), cardReport("z")), poolsSay({ a: 3, b: 4 }), NOW);
  expect(status).toEqual({
    status: "healthy",
    cluster: "portico",
    timestamp: "2026-11-20T00:00:00.000Z",
    total_capacity: 6,
    servers: 2,
    gpus_per_server: 2,
    concurrent_per_gpu: 2,
    in_use: 2,
    queued: 7,
    services: [
      { id: "a", capacity: 6, in_use: 1, queued: 3, cards: 3, healthy_cards: 3 },
      { id: "b", capacity: 6, in_use: 1, queued: 4, cards: 3, healthy_cards: 3 },
    ],
  });
});

test("a card without a server counts as its own server, even if another server has its name", () => {
  const park = everywhere(["a"], [card("x"), card("y"), card("z", { server: "x" })]);
  const status = clusterStatus(
    park,
    cardsSay(cardReport("x"), cardReport("y"), cardReport("z")),
    poolsSay({ a: 0 }),
    NOW,
  );
  expect([status.servers, status.gpus_per_server]).toEqual([3, 1]);
});

test("a card whose gate for a service is not closed takes no work of it", () => {
  const park = everywhere(["a"], [card("x"), card("y")]);
  for (const state of ["open", "half_open", "trial"] as const) {
    const status = clusterStatus(
      park,
      cardsSay(cardReport("x", { gates: { a: gate(state) } }), cardReport("y")),
      poolsSay({ a: 0 }),
      NOW,
    );
    expect([status.status, status.services[0]?.healthy_cards], state).toEqual(["degraded", 1]);
  }
});

test("a card that does not answer is shown by its pool's last report, and without one takes no work", () => {
  const park = everywhere(["a"], [card("x")]);
  const heard = poolsSay({ a: 0 }, [cardReport("x", { held: [held("a", 1)] })]);
  expect(clusterStatus(park, new Map(), heard, NOW)).toMatchObject({ status: "healthy", in_use: 1 });
  expect(clusterStatus(park, new Map(), poolsSay({ a: 0 }), NOW)).toMatchObject({ status: "down", in_use: 0 });
});

test("the newest report of a card counts: by incarnation, then by sequence", () => {
  const park = everywhere(["a"], [card("x")]);
  const own = cardsSay(cardReport("x", { incarnation: 2, seq: 5 }));
  const inUse = (heard: CardReport) => clusterStatus(park, own, poolsSay({ a: 0 }, [heard]), NOW).in_use;
  const busy = [held("a", 1)];
  expect(inUse(cardReport("x", { incarnation: 2, seq: 6, held: busy }))).toBe(1);
  expect(inUse(cardReport("x", { incarnation: 2, seq: 4, held: busy }))).toBe(0);
  expect(inUse(cardReport("x", { incarnation: 1, seq: 9, held: busy }))).toBe(0);
  expect(inUse(cardReport("x", { incarnation: 3, seq: 1, held: busy }))).toBe(1);
});

test("a service whose pool does not answer is down", () => {
  const park = everywhere(["a", "b"], [card("x")]);
  const status = clusterStatus(park, cardsSay(cardReport("x")), poolsSay({ a: 0 }), NOW);
  expect(status).toMatchObject({
    status: "down",
    services: [
      { id: "a", healthy_cards: 1 },
      { id: "b", healthy_cards: 0 },
    ],
  });
});

test("a service with only disabled cards is down; if there are no other cards at all, the cluster is empty", () => {
  const off = card("x", { state: "disabled" });
  const mixed: Park = { ...everywhere(["a"], [off]), services: ["a", "b"] };
  mixed.cards = [off, card("y")];
  mixed.listings = [...mixed.listings, { serviceId: "b", cardId: "y", origin: "", transport: "direct", weight: 1 }];
  expect(clusterStatus(mixed, cardsSay(cardReport("y")), poolsSay({ a: 0, b: 0 }), NOW).status).toBe("down");
  expect(clusterStatus(everywhere(["a"], [off]), new Map(), poolsSay({ a: 0 }), NOW)).toMatchObject({
    status: "healthy",
    total_capacity: 0,
  });
});
