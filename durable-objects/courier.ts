/**
 * The Courier: brings a tenant's events to the addresses that want them, until they are taken or given up; what it has to
 * bring are rows (deliveries.ts), when is delivery-schedule.ts's to say. The sending itself is the Worker's. Whoever
 * enqueues never waits for a receiver; a sending that a restart cut off does not count, and is made again under the same
 * event id.
 *
 * Kept here: invariant 8 of DESIGN.md, and that an event is brought to its address at least once.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeBy } from "./alarm.ts";
import { answered } from "./answer-protocol.ts";
import type { CourierRights, Delivery, DeliveryQuery, Letter, Notice, SenderRights, Sent } from "./courier-protocol.ts";
import { Deliveries } from "./deliveries.ts";
import { after } from "./delivery-schedule.ts";
import { FIRST, type Generations, rotated, signing } from "./secret-generations.ts";

/** Sendings of a tenant at the same time: slow receivers hold up this tenant's other ones alone. */
const AT_ONCE = 8;
/** A sending that has not come back after so long is given up; the Sender's own limits are shorter. */
const SENDING_MS_MAX = 60_000;
/** While something is being sent, the alarm looks this often: it finds what a restart has cut off. */
const LOOK_EVERY_MS = 10_000;
/** How often old deliveries are removed; when one sweep did not come to the end, the next follows soon. */
const SWEEP_EVERY_MS = 6 * 3_600_000;
const SWEEP_ON_MS = 1_000;

export class Courier extends DurableObject implements CourierRights {
  #deliveries: Deliveries;
  #generations: Generations;
  /** Ids of deliveries that are being sent. */
  readonly #sending = new Set<string>();

  constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
    super(ctx, env);
    this.#deliveries = new Deliveries(ctx.storage.sql);
    this.#generations = ctx.storage.kv.get<Generations>("generations") ?? FIRST;
  }

  /** An event of a subject is delivered once, however often it is told. */
  async enqueue(notice: Notice): Promise<void> {
    const event = eventOf(notice);
    const state = this.#deliveries.isDisabled(notice.url) ? "disabled" : "pending";
    if (this.#deliveries.latestOf(event) === null) this.#deliveries.add(notice, event, state, Date.now());
    // Also when it is known: the call that told it first may have been cut off right here.
    await this.#wake();
    this.#pump();
  }

  /**
   * The same event once more, also to an address that is disabled: if it takes it, it is enabled again. One that is still
   * to be delivered is sent now instead. Null: no such delivery.
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

  /** The latest first. */
  async list(query: DeliveryQuery): Promise<Delivery[]> {
    return this.#deliveries.list(query);
  }

  /** Of the tenant's secret, those that sign now; the latest first. */
  async generations(): Promise<number[]> {
    return signing(this.#generations, Date.now());
  }

  /** The tenant's secret is another from now on; the earlier one signs too for a day. */
  async rotate(): Promise<number[]> {
    this.#generations = rotated(this.#generations, Date.now());
    this.ctx.storage.kv.put("generations", this.#generations);
    return this.generations();
  }

  /** Its tenant is gone: so is all that was to be told, and its secret. */
  async forget(): Promise<void> {
    await this.ctx.blockConcurrencyWhile(async () => {
      await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.deleteAll();
      this.#deliveries = new Deliveries(this.ctx.storage.sql);
      this.#generations = FIRST;
    });
  }

  override async alarm(): Promise<void> {
    const { left, more } = this.#deliveries.sweep(Date.now());
    this.#pump();
    if (left) await this.#wake(more ? SWEEP_ON_MS : SWEEP_EVERY_MS);
  }

  // Private

  /** Sends what is due, as much at a time as may be. */
  #pump(): void {
    // Those being sent are due as well, and were due first.
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

  async #sent(id: string, letter: Letter): Promise<Sent> {
    const { Sender } = this.ctx.exports as unknown as { Sender: SenderRights };
    try {
      return await answered(Sender.send(letter), SENDING_MS_MAX);
    } catch (error) {
      console.error(JSON.stringify({ event: "webhook_unsent", delivery: id, error: String(error) }));
      return { status: null, error: "it could not be sent", retryAfterMs: null, again: true };
    }
  }

  /** What a sending has come to. */
  #settle(id: string, sent: Sent, from: number, now: number): void {
    const delivery = this.#deliveries.get(id);
    // It was given up meanwhile, or its address disabled.
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

  /** An alarm when something is to be done next, within `ms` at the latest. */
  async #wake(ms = SWEEP_EVERY_MS): Promise<void> {
    const now = Date.now();
    const next = this.#deliveries.nextDue(now) ?? Number.POSITIVE_INFINITY;
    // What is due and not sent yet waits for room, or was just begun.
    const look = this.#deliveries.due(now, 1).length > 0 ? now + LOOK_EVERY_MS : Number.POSITIVE_INFINITY;
    const at = Math.min(now + ms, next, look);
    await wakeBy(this.ctx.storage, at);
  }
}

/** `webhook-id`; without a dot, which parts what is signed. */
function eventOf({ subject, type }: Notice): string {
  return `evt_${subject.id}_${type.slice(type.indexOf(".") + 1)}`;
}
