import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { RateLimit, RateReply } from "../../durable-objects/tenant-protocol.ts";
import { type Bucket, EMPTY, giveBack, leftIn, REQUEST_DROPS, take } from "../../durable-objects/rate.ts";
import { expectSame, expectThat } from "./same.ts";

const NOW = 1_790_000_000_000;
const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const MOST = 1_000_000;

/** All legal limits, with extreme and common values more often. */
const limits = fc.record({
  requestsPerMinute: fc.oneof(fc.constantFrom(1, 7, 60, 600, MOST), fc.integer({ min: 1, max: MOST })),
  burst: fc.oneof(fc.constantFrom(1, 2, 60), fc.integer({ min: 1, max: 100 })),
});
const pauses = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 2 * MINUTE_MS }));
const arrivals = fc.array(pauses, { minLength: 1, maxLength: 150, size: "max" });

const resetMs = (bucket: Bucket, limit: RateLimit): number => leftIn(bucket, limit, bucket.at).resetMs;

/** A tenant's bucket, as the Tenant object keeps it. */
class Tap {
  bucket: Bucket = EMPTY;
  now = NOW;
  readonly limit: RateLimit;
  readonly passedAt: number[] = [];

  constructor(limit: RateLimit) {
    this.limit = limit;
  }

  ask(afterMs = 0): RateReply {
    this.now += afterMs;
    const { bucket, reply } = take(this.bucket, this.limit, this.now);
    this.bucket = bucket;
    if (reply.ok) this.passedAt.push(this.now);
    return reply;
  }

  /** Whether a request would pass at that time. */
  passes(at: number): boolean {
    return take(this.bucket, this.limit, at).reply.ok;
  }

  /** Asks until it is refused. Returns how many passed. */
  burst(): number {
    let passed = 0;
    while (this.ask().ok) passed++;
    return passed;
  }
}

test("no time window passes more requests than the burst and the rate allow", () => {
  const property = fc.property(limits, arrivals, (limit, pausesMs) => {
    const tap = new Tap(limit);
    for (const ms of pausesMs) tap.ask(ms);
    for (const [i, from] of tap.passedAt.entries()) {
      for (const [j, to] of tap.passedAt.slice(i).entries()) {
        const allowed = limit.burst + ((to - from) * limit.requestsPerMinute) / MINUTE_MS;
        expectThat(j + 1 <= allowed, `${j + 1} passed in ${to - from} ms, ${allowed} may`);
      }
    }
  });
  fc.assert(property, { numRuns: 400 });
});

test("a caller that retries when told gets no fewer requests over a long time than the rate allows", () => {
  const property = fc.property(limits, fc.integer({ min: 1, max: 400 }), (limit, asks) => {
    const tap = new Tap(limit);
    for (let i = 0; i < asks; i++) {
      const reply = tap.ask();
      if (!reply.ok) expectThat(tap.ask(reply.retryAfterMs).ok, "refused again");
    }
    const allowed = limit.burst + ((tap.now - NOW) * limit.requestsPerMinute) / MINUTE_MS;
    // With a small burst, what drains within a millisecond is lost.
    fc.pre(limit.burst > 1 + limit.requestsPerMinute / MINUTE_MS);
    if (tap.passedAt.length > limit.burst)
      expect(tap.passedAt.length).toBeGreaterThan(allowed - 1 - limit.requestsPerMinute / MINUTE_MS);
  });
  fc.assert(property, { numRuns: 500 });
});

test("a request passes exactly at the time given in Retry-After, and not one millisecond before", () => {
  const property = fc.property(limits, arrivals, (limit, pausesMs) => {
    const tap = new Tap(limit);
    for (const ms of pausesMs) {
      const reply = tap.ask(ms);
      if (reply.ok) continue;
      const about = [reply.retryAfterMs - 1, reply.retryAfterMs].map((ms2) => tap.passes(tap.now + ms2));
      expectSame(about, [false, true]);
    }
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("as many requests pass at once as were reported to remain, and a full burst after the reset", () => {
  const property = fc.property(limits, arrivals, (limit, pausesMs) => {
    const tap = new Tap(limit);
    let said = limit.burst;
    for (const ms of pausesMs) said = tap.ask(ms).remaining;
    const again = new Tap(limit);
    Object.assign(again, { bucket: tap.bucket, now: tap.now });
    expect(tap.burst()).toBe(said);
    again.now += resetMs(again.bucket, limit);
    expect(again.burst()).toBe(limit.burst);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("a million requests at once are counted one by one, at any rate", () => {
  for (const requestsPerMinute of [7, 70_000, 999_999, MOST]) {
    const limit = { requestsPerMinute, burst: MOST };
    let bucket = EMPTY;
    let wrong = 0;
    for (let left = MOST - 1; left >= 0; left--) {
      const taken = take(bucket, limit, NOW);
      if (taken.reply.remaining !== left || !taken.reply.ok) wrong++;
      bucket = taken.bucket;
    }
    expect(wrong, `${requestsPerMinute} a minute`).toBe(0);
    expect(take(bucket, limit, NOW).reply.ok).toBe(false);
  }
});

test("a clock that goes back neither adds tokens nor locks a caller out", () => {
  const property = fc.property(limits, fc.integer({ min: 1, max: 24 * HOUR_MS }), (limit, backMs) => {
    const tap = new Tap(limit);
    tap.burst();
    tap.now -= backMs;
    const refused = tap.ask();
    if (refused.ok) throw new Error("it passed");
    expect(refused.retryAfterMs).toBeLessThanOrEqual(Math.ceil(MINUTE_MS / limit.requestsPerMinute));
    expect(tap.ask(refused.retryAfterMs).ok).toBe(true);
  });
  fc.assert(property, { numRuns: 500 });
});

test("a clock that goes back does not take tokens away either", () => {
  const property = fc.property(
    limits,
    fc.nat({ max: 100 }),
    fc.integer({ min: 1, max: HOUR_MS }),
    (limit, asks, backMs) => {
      const tap = new Tap(limit);
      let said = limit.burst;
      for (let i = 0; i < asks; i++) said = tap.ask().remaining;
      tap.now -= backMs;
      expect(tap.burst()).toBe(said);
    },
  );
  fc.assert(property, { numRuns: 300 });
});

test("a lowered limit locks a caller out for no longer than its own full burst takes to refill", () => {
  const property = fc.property(limits, limits, (before, after) => {
    const tap = new Tap(before);
    tap.burst();
    const { reply } = take(tap.bucket, after, tap.now);
    const fullMs = (after.burst * MINUTE_MS) / after.requestsPerMinute;
    expect(reply.resetMs).toBeLessThanOrEqual(Math.ceil(fullMs));
    if (!reply.ok) expect(reply.retryAfterMs).toBeLessThanOrEqual(Math.ceil(MINUTE_MS / after.requestsPerMinute));
  });
  fc.assert(property, { numRuns: 500 });
});

test("a token that is given back at once leaves no trace", () => {
  const property = fc.property(limits, arrivals, (limit, pausesMs) => {
    const tap = new Tap(limit);
    for (const ms of pausesMs) tap.ask(ms);
    const { bucket, reply } = take(tap.bucket, limit, tap.now);
    if (reply.ok)
      expect(resetMs(giveBack(bucket, REQUEST_DROPS), limit)).toBe(resetMs({ ...tap.bucket, at: tap.now }, limit));
  });
  fc.assert(property, { numRuns: 500 });
});

test("however many tokens are given back, no more than a full burst passes at once", () => {
  const property = fc.property(
    limits,
    fc.array(fc.oneof(pauses, fc.constant("back")), { maxLength: 100, size: "max" }),
    (limit, list) => {
      const tap = new Tap(limit);
      for (const one of list) {
        if (one === "back") tap.bucket = giveBack(tap.bucket, REQUEST_DROPS);
        else tap.ask(one);
        expectThat(tap.bucket.level >= 0, "less than nothing is in the bucket");
      }
      expect(tap.burst()).toBeLessThanOrEqual(limit.burst);
    },
  );
  fc.assert(property, { numRuns: 500 });
});
