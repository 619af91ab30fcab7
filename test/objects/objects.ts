/** Helpers for the tests of the objects: cards with unique names, a movable clock, and waits for background reports. */
import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished, vi } from "vitest";
import type { JobSpec } from "../../durable-objects/job-protocol.ts";
import type { Attempt, CardConfig, Ending, Listing } from "../../durable-objects/card-protocol.ts";
import type { Env } from "../../worker/env.ts";

/** Generous, because the machine may be busy and background reports take time. */
const EVENTUALLY_MS_MAX = 4_000;
const POLL_MS = 5;
/** Objects flush deferred writes within this time. */
const WRITTEN_MS = 150;

export const CLEAN: Ending = { clean: true, health: "ok", reason: null };
export const UNCLEAN: Ending = { clean: false, health: null, reason: null };
export const FAILED: Ending = { clean: true, health: "failed", reason: "origin_status" };

let made = 0;
export const fresh = (kind: string) => `${kind}-${++made}`;

export const sleep = (ms: number) => scheduler.wait(ms);

/** Retries `holds` until it does not throw. */
export async function eventually(holds: () => Promise<void>): Promise<void> {
  const until = performance.now() + EVENTUALLY_MS_MAX;
  for (;;) {
    try {
      await holds();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await sleep(POLL_MS);
    }
  }
}

/** Advances the clock that the objects read, for the rest of the test. Alarms and timers still use real time. */
export function passTime(ms: number): void {
  const now = Date.now();
  if (!vi.isFakeTimers()) {
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => void vi.useRealTimers());
  }
  vi.setSystemTime(now + ms);
}

export type CardStub = ReturnType<Env["CARD"]["getByName"]>;

export interface CardUnderTest {
  id: string;
  stub: CardStub;
  config: CardConfig;
}

export function listing(service: string, more: Partial<Listing> = {}): Listing {
  return {
    service,
    origin: `http://127.0.0.1:9/${service}`,
    transport: "direct",
    breaker: { maxFails: 3, failTimeoutMs: 30_000 },
    drain: { probe: null, maxMs: 60_000 },
    abandon: "finish",
    ...more,
  };
}

/** Creates a card that is listed in `service`, with two slots by default. */
export async function makeCard(service: string, more: Partial<CardConfig> = {}): Promise<CardUnderTest> {
  const id = fresh("card");
  const stub = env.CARD.getByName(id);
  const config: CardConfig = { version: 1, card: id, slots: 2, state: "active", listings: [listing(service)], ...more };
  await stub.configure(config);
  return { id, stub, config };
}

/** Changes a card's configuration, with the next version number. */
export async function reconfigure(card: CardUnderTest, more: Partial<CardConfig>): Promise<void> {
  card.config = { ...card.config, version: card.config.version + 1, ...more };
  await card.stub.configure(card.config);
}

export function attemptAt(service: string, more: Partial<Attempt> = {}): Attempt {
  const attempt = fresh("att");
  return { attempt, request: `req-of-${attempt}`, tenant: "acme", service, fingerprint: null, ...more };
}

/** Claims a slot, which must be granted. */
export async function claim(stub: CardStub, attempt: Attempt) {
  const reply = await stub.claim(attempt);
  if ("no" in reply) throw new Error(`the card said no: ${reply.no}`);
  onTestFinished(() => reply.lease[Symbol.dispose]());
  return reply;
}

/** The error message of a call that must fail. */
export async function failureOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
  } catch (error) {
    return String(error);
  }
  throw new Error("it did not fail");
}

/** Claims a slot and releases it at once. */
export async function run(stub: CardStub, attempt: Attempt, ending: Ending): Promise<number> {
  const { number, lease } = await claim(stub, attempt);
  await lease.release(ending);
  lease[Symbol.dispose]();
  return number;
}

/** Evicts an idle object as the platform does. All stubs must be disposed first, because eviction waits for them. */
export async function evict(stub: DurableObjectStub): Promise<void> {
  await sleep(WRITTEN_MS);
  await evictDurableObject(stub);
}

/** Crashes the Card: its stubs stay open, and unwritten changes are lost. */
export async function crash(card: CardUnderTest): Promise<void> {
  await expect(runInDurableObject(card.stub, (_, state) => state.abort("crash"))).rejects.toThrow("crash");
  card.stub = env.CARD.getByName(card.id);
}

/** The number of leased and of draining slots of a card. */
export async function slotsOf(stub: CardStub) {
  const { leases } = await stub.status();
  const draining = leases.filter((lease) => lease.state === "draining").length;
  return { leased: leases.length - draining, draining };
}

export async function expectSlots(stub: CardStub, slots: { leased: number; draining: number }): Promise<void> {
  await eventually(async () => expect(await slotsOf(stub)).toEqual(slots));
}

/** The state of a card's breaker for a service. */
export async function gateOf(stub: CardStub, service: string) {
  return (await stub.report()).gates[service];
}

/** A newly submitted job of a tenant. */
export function jobSpec(tenant: string, more: Partial<JobSpec> = {}): JobSpec {
  return {
    id: fresh("job_x").replaceAll("-", ""),
    tenant,
    key: "key",
    service: "s",
    priority: "normal",
    method: "POST",
    path: "/s/run",
    query: "",
    headers: {},
    input: { kind: "none" },
    createdAt: Date.now(),
    startDeadlineAt: null,
    costMilli: 0,
    batch: null,
    webhook: null,
    base: "https://gpu.example.com",
    clientAddress: null,
    keepMs: 86_400_000,
    ...more,
  };
}
