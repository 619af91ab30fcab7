/** A webhook receiver inside the test, and what the API reports about its deliveries. */
import { setTimeout as delay } from "node:timers/promises";
import { Webhook } from "standardwebhooks";
import { expect, onTestFinished } from "vitest";
import { type Doorway, expectOk, picture } from "../contract/doorway.ts";
import { type Answering, Origin, type Seen, valuesOf } from "../contract/origin.ts";
import { type JobShown, submitted } from "./shown.ts";

const POLL_MS = 50;

export interface DeliveryShown {
  id: string;
  event: string;
  type: string;
  job: string | null;
  url: string;
  status: "pending" | "delivered" | "failed" | "disabled";
  attempts: { number: number; at: string; ms: number; status: number | null; error: string | null }[];
  next_attempt_at: string | null;
  finished_at: string | null;
}

export interface Told {
  type: string;
  timestamp: string;
  data: JobShown;
}

/** Starts a receiver; it answers 200 by default. */
export async function receiver(answering: Answering = (res) => void res.end()): Promise<Origin> {
  const origin = await Origin.open();
  onTestFinished(() => origin.close());
  origin.answering = answering;
  return origin;
}

export const status =
  (code: number, headers: Record<string, string> = {}): Answering =>
  (res) =>
    void res.writeHead(code, headers).end();

/** Submits a picture job with a webhook to `url`; returns the job's id. */
export function calledBack(door: Doorway, url: string, key = door.ownKey, secret?: string): Promise<string> {
  return submitted(door, { service: "portrait", input: picture(), webhook: { url, ...(secret && { secret }) } }, key);
}

/** Waits until this many webhooks have arrived. */
export async function heard(origin: Origin, count: number, msMax = 15_000): Promise<Seen[]> {
  for (const until = Date.now() + msMax; origin.seen.length < count; await delay(POLL_MS))
    if (Date.now() > until) throw new Error(`${origin.seen.length} of ${count} sendings after ${msMax} ms`);
  return origin.seen;
}

export const headerOf = (seen: Seen, name: string): string => valuesOf(seen, name).join();

/** The webhook's content, verified as every receiver would. */
export function verified(seen: Seen, secret: string): Told {
  const headers = Object.fromEntries(seen.headers.map(([name, value]) => [name.toLowerCase(), value]));
  return new Webhook(secret).verify(seen.body.toString(), headers) as Told;
}

export async function secretOf(door: Doorway, key = door.ownKey): Promise<string> {
  return (JSON.parse(expectOk(await door.ask("/v1/webhooks/secret", { key })).text) as { key: string }).key;
}

export async function deliveries(door: Doorway, query = "", key = door.ownKey): Promise<DeliveryShown[]> {
  const answer = expectOk(await door.ask(`/v1/webhooks/deliveries${query}`, { key }));
  return (JSON.parse(answer.text) as { data: DeliveryShown[] }).data;
}

/** Waits until the latest delivery of a job satisfies `holds`. */
export async function deliveryOf(
  door: Doorway,
  job: string,
  holds: (delivery: DeliveryShown) => boolean,
  msMax = 15_000,
  key = door.ownKey,
): Promise<DeliveryShown> {
  for (const until = Date.now() + msMax; ; await delay(POLL_MS)) {
    const found = (await deliveries(door, "?limit=100", key)).find((delivery) => delivery.job === job);
    if (found !== undefined && holds(found)) return found;
    if (Date.now() > until) throw new Error(`not in ${msMax} ms: ${JSON.stringify(found)}`);
  }
}

export async function replay(door: Doorway, id: string, key = door.ownKey): Promise<DeliveryShown> {
  const answer = await door.ask(`/v1/webhooks/deliveries/${id}/replay`, { method: "POST", key });
  expect(answer.status, answer.text).toBe(202);
  return JSON.parse(answer.text) as DeliveryShown;
}
