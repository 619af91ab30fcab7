import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { SendResult } from "../../durable-objects/courier-protocol.ts";
import { after, TRIES_MAX } from "../../durable-objects/delivery-schedule.ts";

const NOW = 1_790_000_000_000;
const HOUR_MS = 3_600_000;
/** The contract gives the first delays; the others are documented with the API. */
const DELAYS_S = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const failing = fc.record({
  status: fc.oneof(fc.constant(null), fc.integer({ min: 300, max: 599 })),
  error: fc.constant(null),
  retryAfterMs: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 10 ** 12 })),
  again: fc.constant(true),
}) satisfies fc.Arbitrary<SendResult>;
const failed = failing.filter(({ status }) => status !== 410);

const sent = (more: Partial<SendResult>): SendResult => ({
  status: 500,
  error: null,
  retryAfterMs: null,
  again: true,
  ...more,
});

test("on any try, a 2xx marks the delivery delivered and a 410 disables it, whatever else the response has", () => {
  const tries = fc.integer({ min: 1, max: TRIES_MAX });
  fc.assert(
    fc.property(fc.integer({ min: 200, max: 299 }), tries, random, fc.boolean(), (status, n, chance, again) => {
      expect(after(sent({ status, again, retryAfterMs: 5 }), n, NOW, chance)).toEqual({
        state: "delivered",
        nextAt: null,
      });
      expect(after(sent({ status: 410, again }), n, NOW, chance)).toEqual({ state: "disabled", nextAt: null });
    }),
  );
});

test("other answers wait the scheduled delay +-10%, and at least as long as the receiver asks, up to an hour", () => {
  fc.assert(
    fc.property(failed, fc.integer({ min: 1, max: DELAYS_S.length }), random, (one, n, chance) => {
      const verdict = after(one, n, NOW, chance);
      if (verdict.state !== "pending") throw new Error(`${verdict.state} after ${n}`);
      const delayMs = (DELAYS_S[n - 1] ?? 0) * 1_000;
      const askedMs = Math.min(one.retryAfterMs ?? 0, HOUR_MS);
      const waitedMs = verdict.nextAt - NOW;
      expect(waitedMs).toBeGreaterThanOrEqual(Math.max(Math.floor(delayMs * 0.9), askedMs));
      expect(waitedMs).toBeLessThanOrEqual(Math.max(Math.ceil(delayMs * 1.1), askedMs));
    }),
  );
});

test("every delivery ends after eight tries, after more than one day and less than three", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(failed, random), { minLength: 20, maxLength: 20 }), (tries) => {
      let [now, n] = [NOW, 0];
      for (const [one, chance] of tries) {
        const verdict = after(one, ++n, now, chance);
        if (verdict.state === "failed") break;
        now = verdict.nextAt ?? Number.NaN;
      }
      expect(n).toBe(TRIES_MAX);
      expect(now - NOW).toBeGreaterThan(24 * HOUR_MS);
      expect(now - NOW).toBeLessThan(72 * HOUR_MS);
    }),
  );
});

test("a delivery that no longer has anything to send fails at once", () => {
  expect(after(sent({ status: null, again: false }), 1, NOW, 0)).toEqual({ state: "failed", nextAt: null });
});
