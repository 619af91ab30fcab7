/** A Pool that does not answer: what its callers are told, and when. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Line, newAttempt, type Offer } from "../../worker/dispatch.ts";
import type { Env } from "../../worker/env.ts";
import { message } from "../../worker/messages.ts";
import { retryAfterSeconds } from "../../worker/refusal.ts";
import type { Entry } from "../../durable-objects/pool-protocol.ts";

const never = () => new Promise<never>(() => {});
const done = () => Promise.resolve();

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Like an RPC promise: methods of its result can be called before it resolves. */
function reply<T extends { offer: () => Promise<unknown> }>(ticket: Promise<T>): Promise<T> & { offer: T["offer"] } {
  return Object.assign(ticket, { offer: async () => (await ticket).offer() });
}

function lineTo(pool: object, card: object = {}): Line {
  const env = { POOL: { getByName: () => pool }, CARD: { getByName: () => card } } as unknown as Env;
  const entry = { attempt: newAttempt(), avoid: [] as string[] } as Entry;
  return new Line(env, "portrait", entry, { provision: done, later: () => undefined });
}

/** The offer as text, with the largest possible Retry-After. */
function told(offer: Offer): string {
  if (offer.kind !== "refused") return offer.kind;
  const { refusal } = offer;
  return `${refusal.reason} ${message(refusal, "en")} ${retryAfterSeconds(refusal, 0.999)}`;
}

const LOST =
  "queue_full There is no room for this request: the queue is not responding. Try again later (see Retry-After). 6";

test("an overloaded Pool is not asked again at once", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const enter = vi.fn(() => reply(Promise.reject(Object.assign(new Error("overloaded"), { overloaded: true }))));
  expect(told(await lineTo({ enter }).offer())).toBe(LOST);
  expect(enter).toHaveBeenCalledTimes(1);
});

test("a Pool that does not answer `enter` holds a request for at most 10 s", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const offer = lineTo({ enter: () => reply(never()) }).offer();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(told(await offer)).toBe(LOST);
});

test("a Pool that does not answer in line holds a request for at most 60 s", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const ticket = { offer: never, [Symbol.dispose]: () => undefined };
  const offer = lineTo({ enter: () => reply(Promise.resolve(ticket)) }).offer();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(told(await offer)).toBe(LOST);
});

test("a waiting request survives any number of restarts of the Pool", async () => {
  let entered = 0;
  // Each Pool answers once and then restarts.
  const ticket = () => {
    const offer = vi.fn(() => Promise.reject(new Error("Durable Object reset because its code was updated.")));
    const first = { kind: entered > 20 ? "offer" : "waiting", card: "a", pressed: false, others: false, slotsLeft: 1 };
    return { offer: offer.mockResolvedValueOnce(first as never), [Symbol.dispose]: () => undefined };
  };
  const enter = () => (entered++, reply(Promise.resolve(ticket())));
  const offer = lineTo({ enter }).offer();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(told(await offer)).toBe("offer");
});

test("a Pool that stays behind is not entered forever", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const ticket = { offer: () => Promise.resolve({ kind: "behind" }), [Symbol.dispose]: () => undefined };
  const offer = lineTo({ enter: () => reply(Promise.resolve(ticket)) }).offer();
  expect(told(await offer)).toBe(LOST);
});

test("a Card that does not answer is declined, and the slot it may have granted is given back", async () => {
  const said: unknown[] = [];
  const ticket = {
    offer: () => Promise.resolve({ kind: "offer", card: "a", pressed: false, others: false, slotsLeft: 1 }),
    declined: (...words: unknown[]) => (said.push(["declined", ...words]), done()),
    retry: () => (said.push(["retry"]), Promise.resolve(true)),
    [Symbol.dispose]: () => undefined,
  };
  const unclaim = vi.fn(done);
  const line = lineTo({ enter: () => reply(Promise.resolve(ticket)) }, { claim: never, unclaim });
  const offer = await line.offer();
  if (offer.kind !== "offer") throw new Error(offer.kind);
  const { attempt } = line;
  const claimed = line.claim(offer, { request: "r", tenant: "t", service: "portrait", fingerprint: null });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await claimed).toBeNull();
  expect(said).toEqual([["declined", "a", "full"], ["retry"]]);
  expect(unclaim).toHaveBeenCalledExactlyOnceWith(attempt);
  expect(line.attempt).not.toBe(attempt);
});

test("a retry whose ticket was lost reports its old attempt as ended, so that nobody follows it", async () => {
  const finished = vi.fn(done);
  const ticket = {
    offer: () => Promise.resolve({ kind: "offer", card: "a", pressed: false, others: false, slotsLeft: 1 }),
    retry: () => Promise.reject(new Error("Durable Object reset because its code was updated.")),
    [Symbol.dispose]: () => undefined,
  };
  const line = lineTo({ enter: () => reply(Promise.resolve(ticket)), finished });
  await line.offer();
  const { attempt } = line;
  expect(await line.retry(["a"])).toBe(true);
  expect(finished).toHaveBeenCalledExactlyOnceWith(attempt, { kind: "failed", reason: "client_gone" }, null);
  expect(line.attempt).not.toBe(attempt);
});
