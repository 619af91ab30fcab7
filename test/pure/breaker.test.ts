import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  abandoned,
  type BreakerLimits,
  failed,
  gate,
  type Health,
  HEALTHY,
  succeeded,
  tried,
} from "../../durable-objects/breaker.ts";
import { expectSame, expectThat } from "./same.ts";

const HOUR_MS = 3_600_000;
const TIMEOUT_MS = 30_000;
const LIMITS: BreakerLimits = { maxFails: 3, failTimeoutMs: TIMEOUT_MS };
const NOW = 1_000_000_000;
/** A card's ejection grows to at most this many times fail_timeout. */
const GROWN_MAX = 10;

/** A card and the runs on it; calls the breaker as the Card does. */
class Watched {
  now = NOW;
  health: Health = HEALTHY;
  readonly limits: BreakerLimits;
  /** Attempts in progress. */
  readonly running: string[] = [];
  #attempts = 0;

  constructor(limits = LIMITS) {
    this.limits = limits;
  }

  get state(): string {
    return gate(this.health, this.limits, this.now).state;
  }

  /** Starts a run if the gate allows it. Returns its name. */
  start(): string | null {
    const { state } = this;
    if (state === "open" || state === "trial") return null;
    const name = `attempt ${++this.#attempts}`;
    if (state === "half_open") this.health = tried(this.health, name);
    this.running.push(name);
    return name;
  }

  end(name: string, how: "ok" | "failed" | "nothing"): void {
    this.running.splice(this.running.indexOf(name), 1);
    if (how === "ok") this.health = succeeded(this.health, name, this.now);
    else if (how === "failed") this.health = failed(this.health, this.limits, name, "origin_reset", this.now);
    else this.health = abandoned(this.health, name);
  }

  run(how: "ok" | "failed" | "nothing"): boolean {
    const name = this.start();
    if (name !== null) this.end(name, how);
    return name !== null;
  }

  /** Fails runs until the card is ejected. Returns for how long. */
  knockOut(): number {
    while (this.state === "closed") this.run("failed");
    return gate(this.health, this.limits, this.now).untilAt - this.now;
  }

  heal(): void {
    this.now = Math.max(this.now, gate(this.health, this.limits, this.now).untilAt);
    this.run("ok");
  }
}

const ends = fc.constantFrom<"ok" | "failed" | "nothing">("ok", "failed", "failed", "nothing");
type Step = { start: true } | { end: number; how: "ok" | "failed" | "nothing" } | { ms: number };
const forward = fc.oneof(fc.integer({ min: 0, max: 20_000 }), fc.constantFrom(TIMEOUT_MS, 10 * TIMEOUT_MS));
const stepWith = (ms: fc.Arbitrary<number>): fc.Arbitrary<Step> =>
  fc.oneof(fc.constant<Step>({ start: true }), fc.record({ end: fc.nat({ max: 20 }), how: ends }), fc.record({ ms }));
const limits = fc.record({
  maxFails: fc.integer({ min: 1, max: 6 }),
  failTimeoutMs: fc.constantFrom(1_000, 10_000, TIMEOUT_MS),
});

function take(card: Watched, step: Step): void {
  if ("ms" in step) card.now += step.ms;
  else if ("start" in step) card.start();
  else if (card.running.length > 0) card.end(card.running[step.end % card.running.length] ?? "", step.how);
}

test("a gate opens at exactly max_fails failures within fail_timeout", () => {
  const property = fc.property(limits, fc.array(stepWith(forward), { maxLength: 60, size: "max" }), (some, list) => {
    const card = new Watched(some);
    /** When runs failed since the gate last opened or closed. */
    let fails: number[] = [];
    for (const step of list) {
      const before = card.state;
      const runs = card.running.length;
      take(card, step);
      if (before !== "closed") {
        fails = [];
        continue;
      }
      if ("how" in step && step.how === "failed" && card.running.length < runs) fails.push(card.now);
      const within = fails.filter((at) => at > card.now - some.failTimeoutMs).length;
      if ("how" in step) expectSame(card.state, within >= some.maxFails ? "open" : "closed");
    }
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("an open gate lets no request through before its time, and then exactly one until that one has ended", () => {
  const property = fc.property(limits, fc.array(stepWith(forward), { maxLength: 80, size: "max" }), (some, list) => {
    const card = new Watched(some);
    let trial: string | null = null;
    for (const step of list) {
      const { state, untilAt } = gate(card.health, card.limits, card.now);
      const before = [...card.running];
      take(card, step);
      const started = card.running.find((name) => !before.includes(name)) ?? null;
      if (state === "open") expectSame([started, card.now < untilAt || card.state !== "open"], [null, true]);
      if (state === "trial") expectSame(started, null);
      if (state === "half_open" && started !== null) trial = started;
      if (card.state === "trial") expectThat(card.running.includes(trial ?? ""), "the one on trial has ended");
    }
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("whatever happens, a card that has healed is back within its longest ejection", () => {
  const jumps = fc.oneof(forward, fc.integer({ min: -HOUR_MS, max: HOUR_MS }));
  const property = fc.property(limits, fc.array(stepWith(jumps), { maxLength: 60, size: "max" }), (some, list) => {
    const card = new Watched(some);
    for (const step of list) take(card, step);
    while (card.running.length > 0) card.end(card.running[0] ?? "", "nothing");
    const { state, untilAt } = gate(card.health, card.limits, card.now);
    if (state === "open") expect(untilAt - card.now).toBeLessThanOrEqual(GROWN_MAX * some.failTimeoutMs);
    card.heal();
    expect(card.state).toBe("closed");
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("a successful trial closes the gate, a failed one opens it again for the same time", () => {
  const card = new Watched();
  const out = card.knockOut();
  expect(out).toBe(TIMEOUT_MS);
  for (let again = 0; again < 5; again++) {
    card.now += out - 1;
    expect(card.run("failed")).toBe(false);
    card.now += 1;
    expect(card.state).toBe("half_open");
    expect(card.run("failed")).toBe(true);
    expect(gate(card.health, card.limits, card.now)).toMatchObject({ state: "open", untilAt: card.now + out });
  }
  card.now += out;
  card.run("ok");
  expect(gate(card.health, card.limits, card.now)).toEqual({ state: "closed", untilAt: 0, reason: null });
});

test("a trial without a verdict lets the next request try", () => {
  const card = new Watched();
  card.now += card.knockOut();
  for (let again = 0; again < 3; again++) {
    expect(card.run("nothing")).toBe(true);
    expect(card.state).toBe("half_open");
  }
});

test("a run that began before the gate opened neither closes it nor prolongs it", () => {
  const card = new Watched();
  const [slow, slower, slowest] = [card.start() ?? "", card.start() ?? "", card.start() ?? ""];
  card.knockOut();
  const opened = gate(card.health, card.limits, card.now);
  card.now += 10_000;
  card.end(slow, "ok");
  card.end(slower, "failed");
  expect(gate(card.health, card.limits, card.now)).toEqual(opened);
  card.now += TIMEOUT_MS;
  const trial = card.start() ?? "";
  card.end(slowest, "failed");
  expect(card.state).toBe("trial");
  card.end(trial, "ok");
  expect(card.state).toBe("closed");
});

test("a flapping card is ejected for longer each time, up to a limit, and reset after a long healthy time", () => {
  const card = new Watched();
  const outs = Array.from({ length: GROWN_MAX + 5 }, () => {
    const out = card.knockOut();
    card.heal();
    card.now += 5_000;
    return out;
  });
  const grown = outs.map((_, i) => Math.min(i + 1, GROWN_MAX) * TIMEOUT_MS);
  expect(outs).toEqual(grown);
  card.now += HOUR_MS;
  expect(card.knockOut()).toBe(TIMEOUT_MS);
});

test("a card that stays down is tried every fail_timeout, however long it is down", () => {
  const card = new Watched();
  card.knockOut();
  let tries = 0;
  for (const until = card.now + HOUR_MS; card.now <= until; card.now += 1_000) if (card.run("failed")) tries++;
  expect(tries).toBe(HOUR_MS / TIMEOUT_MS);
});

test("a clock that goes back by an hour does not keep a card ejected for that hour", () => {
  const card = new Watched();
  card.knockOut();
  card.now -= HOUR_MS;
  expect(gate(card.health, card.limits, card.now)).toMatchObject({ state: "half_open", untilAt: card.now });
  card.run("failed");
  expect(gate(card.health, card.limits, card.now)).toMatchObject({ state: "open", untilAt: card.now + TIMEOUT_MS });
});

test("failures recorded before the clock went back still count", () => {
  const card = new Watched();
  card.run("failed");
  card.run("failed");
  card.now -= HOUR_MS;
  card.run("failed");
  expect(card.state).toBe("open");
});

test("successes, and failures that are far apart, never open a gate", () => {
  const card = new Watched();
  for (let i = 0; i < 1_000; i++) {
    card.now += TIMEOUT_MS / 2;
    expect(card.run(i % 2 === 0 ? "failed" : "ok")).toBe(true);
  }
});

test("a card whose last runs failed runs no more at once than it may still fail, until one succeeds", () => {
  const card = new Watched();
  const most = () => gate(card.health, card.limits, card.now).most;
  expect(most()).toBeUndefined();
  card.run("failed");
  expect(most()).toBe(2);
  card.run("failed");
  expect(most()).toBe(1);
  card.run("ok");
  expect(most()).toBeUndefined();
  card.run("failed");
  expect(card.state).toBe("open");
});

test("the limit on concurrent runs ends when the failures behind it expire", () => {
  const card = new Watched();
  card.run("failed");
  card.run("failed");
  card.now += TIMEOUT_MS;
  expect(gate(card.health, card.limits, card.now).most).toBeUndefined();
});

test("an ejected card is only suspected until its trial has failed, and then it is proven", () => {
  const card = new Watched();
  card.knockOut();
  const isProven = () => gate(card.health, card.limits, card.now).proven;
  expect(isProven()).toBe(false);
  card.now += TIMEOUT_MS;
  card.run("failed");
  expect(isProven()).toBe(true);
  card.heal();
  card.knockOut();
  expect(isProven()).toBe(false);
});
