/**
 * The Courier: delivers a tenant's events to webhook addresses until each is accepted or given up. Deliveries are rows
 * (deliveries.ts), their timing is in delivery-schedule.ts, and the Worker does the sending. `enqueue` never waits for
 * a receiver. A sending cut off by a restart does not count and is repeated under the same event id.
 *
 * Enforces invariant 8 of DESIGN.md, and delivers each event to its address at least once, as far as the schedule
 * allows.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeBy } from "./alarm.ts";
import { withTimeout } from "./timeout.ts";
import type {
  CourierRpc,
  Delivery,
  DeliveryQuery,
  SendRequest,
  Notice,
  SenderRpc,
  SendResult,
} from "./courier-protocol.ts";
import { Deliveries } from "./deliveries.ts";
import { after } from "./delivery-schedule.ts";
import { FIRST, type Generations, rotated, signing } from "./secret-generations.ts";

/** Concurrent sendings per tenant; slow receivers delay only this tenant's other deliveries. */
const AT_ONCE = 8;
/** Timeout of a sending; the Sender's own limits are shorter. */
const SENDING_MS_MAX = 60_000;
/** Alarm interval while something is being sent, to find sendings that a restart cut off. */
const LOOK_EVERY_MS = 10_000;
/** Minimum interval between sweeps: a sweep reads the whole table, and the alarm may be due every few seconds. */
const SWEPT_MS_MIN = 3_600_000;
/** Interval between sweeps while nothing is sent, and the pause before the next sweep if one did not finish. */
const SWEEP_EVERY_MS = 6 * 3_600_000;
const SWEEP_ON_MS = 1_000;

export class Courier extends DurableObject implements CourierRpc {
  #deliveries: Deliveries;
  #generations: Generations;
  /** Ids of deliveries in flight. */
  readonly #sending = new Set<string>();
  /** When the last complete sweep was made. */
  #sweptAt = 0;

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.#deliveries = new Deliveries(ctx.storage.sql);
    this.#generations = ctx.storage.kv.get<Generations>("generations") ?? FIRST;
  }

  /** Queues an event for delivery. Repeating it has no effect. */
  async enqueue(notice: Notice): Promise<void> {
    const event = eventOf(notice);
    const state = this.#deliveries.isDisabled(notice.url) ? "disabled" : "pending";
    if (this.#deliveries.latestOf(event) === null) this.#deliveries.add(notice, event, state, Date.now());
    // Also if the event is known: an earlier call may have been cut off right here.
    await this.#wake();
    this.#pump();
  }

  /**
   * Delivers the event again, even to a disabled address, which is enabled again if it accepts. A pending delivery is
   * sent now instead. Returns null if there is no such delivery.
   */
  async replay(id: string): Promise<Delivery | null> {
    const given = this.#deliveries.get(id);
    if (given === null) return null;
    const now = Date.now();
    const latest = this.#deliveries.latestOf(given.event) ?? given;
    const replayed =
      latest.state === "pending"
        ? { ...latest, nextAt: now }
        : this.#deliveries.add(given, given.event, "pending", now);
    this.#deliveries.update(replayed);
    await this.#wake();
    this.#pump();
    return replayed;
  }

  async delivery(id: string): Promise<Delivery | null> {
    return this.#deliveries.get(id);
  }

  /** Newest first. */
  async list(query: DeliveryQuery): Promise<Delivery[]> {
    return this.#deliveries.list(query);
  }

  /** Generations of the tenant's secret that sign now, newest first. */
  async generations(): Promise<number[]> {
    return signing(this.#generations, Date.now());
  }

  /** Replaces the tenant's secret. The previous one also signs for another day. */
  async rotate(): Promise<number[]> {
    this.#generations = rotated(this.#generations, Date.now());
    this.ctx.storage.kv.put("generations", this.#generations);
    return this.generations();
  }

  /** Deletes all deliveries and the secret of a deleted tenant. */
  async forget(): Promise<void> {
    await this.ctx.blockConcurrencyWhile(async () => {
      await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.deleteAll();
      this.#deliveries = new Deliveries(this.ctx.storage.sql);
      this.#generations = FIRST;
    });
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    const isDue = Math.abs(now - this.#sweptAt) >= SWEPT_MS_MIN;
    const { left, more } = isDue ? this.#deliveries.sweep(now) : { left: true, more: false };
    if (isDue && !more) this.#sweptAt = now;
    this.#pump();
    if (left) await this.#wake(more ? SWEEP_ON_MS : SWEEP_EVERY_MS);
  }

  // Private

  /** Sends what is due, at most AT_ONCE at a time. */
  #pump(): void {
    // Deliveries in flight are still due and come first, so twice as many are read.
    for (const delivery of this.#deliveries.due(Date.now(), 2 * AT_ONCE)) {
      if (this.#sending.size >= AT_ONCE) return;
      if (!this.#sending.has(delivery.id)) this.ctx.waitUntil(this.#send(delivery));
    }
  }

  async #send(delivery: Delivery): Promise<void> {
    const { id, event, url } = delivery;
    const { tenant, subject, type, at, dialect } = delivery;
    this.#sending.add(id);
    try {
      const from = Date.now();
      const generations = signing(this.#generations, from);
      const sent = await this.#sent(id, { tenant, subject, type, at, url, dialect, event, generations });
      this.#settle(id, sent, from, Date.now());
    } finally {
      this.#sending.delete(id);
    }
    await this.#wake();
    this.#pump();
  }

  async #sent(id: string, letter: SendRequest): Promise<SendResult> {
    const { Sender } = this.ctx.exports as unknown as { Sender: SenderRpc };
    try {
      return await withTimeout(Sender.send(letter), SENDING_MS_MAX);
    } catch (error) {
      console.error(JSON.stringify({ event: "webhook_send_failed", delivery: id, error: String(error) }));
      return { status: null, error: "sending failed or timed out", retryAfterMs: null, again: true };
    }
  }

  /** Records the outcome of a sending. */
  #settle(id: string, sent: SendResult, from: number, now: number): void {
    const delivery = this.#deliveries.get(id);
    // It was given up, or its address disabled, in the meantime.
    if (delivery === null || delivery.state !== "pending") return;
    const number = delivery.tries.length + 1;
    const tries = [...delivery.tries, { number, at: from, ms: now - from, status: sent.status, error: sent.error }];
    const verdict = after(sent, number, now, Math.random());
    this.#deliveries.update({ ...delivery, tries, ...verdict, endedAt: verdict.nextAt === null ? now : null });
    if (verdict.state === "disabled") this.#deliveries.disable(delivery.url, now);
    if (verdict.state === "delivered") this.#deliveries.enable(delivery.url);
    else if (verdict.state !== "pending")
      console.warn(JSON.stringify({ event: "webhook_given_up", delivery: id, state: verdict.state, tries: number }));
  }

  /** Sets the alarm for the next thing to do, at most `ms` from now. */
  async #wake(ms = SWEEP_EVERY_MS): Promise<void> {
    const now = Date.now();
    const next = this.#deliveries.nextDue(now) ?? Number.POSITIVE_INFINITY;
    // A delivery that is due waits for a free place, or is in flight.
    const look = this.#deliveries.due(now, 1).length > 0 ? now + LOOK_EVERY_MS : Number.POSITIVE_INFINITY;
    const at = Math.min(now + ms, next, look);
    await wakeBy(this.ctx.storage, at);
  }
}

/** The `webhook-id`. It contains no dot, because dots separate the parts of the signed text. */
function eventOf({ subject, type }: Notice): string {
  return `evt_${subject.id}_${type.slice(type.indexOf(".") + 1)}`;
}
