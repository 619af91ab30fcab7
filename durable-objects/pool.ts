/**
 * The Pool: the queue in front of a service's cards. It offers cards to requests but never grants a slot; its counts of
 * the cards are advisory and corrected by the Cards' reports. Desk (desk.ts) makes the decisions; this class handles
 * storage and RPC.
 */
import { DurableObject } from "cloudflare:workers";
import { withTimeout, shortly } from "./timeout.ts";
import { Timers } from "./clock.ts";
import { Desk } from "./desk.ts";
import { present, waitingFor } from "./desk-view.ts";
import type { Times } from "./estimate.ts";
import { ASKED_AT_ONCE } from "./report-poller.ts";
import type { CardReport, CardRpc } from "./card-protocol.ts";
import type { Entry, Finish, Observed, Outlook, PoolConfig, PoolStatus, Presence } from "./pool-protocol.ts";
import { NOTHING_SPENT, type Spent, type TenantRpc } from "./tenant-protocol.ts";
import { Ticket } from "./ticket.ts";

/** How long a starting Pool waits at most for its cards' reports before it offers anything. */
const HEAR_MS_MAX = 1_000;
/** Learned times are stored at most this often. */
const KEEP_TIMES_MS = 5_000;
/** How long after a restart all requests that waited before it are queued again, if still alive. */
const SURE_MS = 10_000;

/** Status recorded for a request whose client hung up. */
const CLIENT_GONE = 499;
const LEFT: Spent = { ...NOTHING_SPENT, reason: "client_gone" };

interface PoolEnv {
  TENANT: { getByName(name: string): TenantRpc };
  CARD: { getByName(name: string): CardRpc };
}

export class Pool extends DurableObject<PoolEnv> {
  readonly #desk: Desk;
  readonly #startedAt = Date.now();
  #config: PoolConfig | null;
  #timesKeptAt = 0;

  constructor(ctx: DurableObjectState, env: PoolEnv) {
    super(ctx, env);
    this.#config = ctx.storage.kv.get<PoolConfig>("config") ?? null;
    const errands = {
      ask: (cards: string[]) => ctx.waitUntil(this.#ask(cards)),
      departed: (entry: Entry) => this.#recordLeft(entry),
      learned: (times: Times) => this.#keepTimes(times),
    };
    this.#desk = new Desk(new Timers(), errands, ctx.storage.kv.get<Times>("times") ?? null);
    const config = this.#config;
    // Earlier runs count against their tenants' caps, and new requests may follow them.
    if (config !== null) void ctx.blockConcurrencyWhile(() => shortly(this.#adopt(config), HEAR_MS_MAX));
  }

  /** Applies a newer configuration; ignores an older or equal one. */
  async configure(config: PoolConfig): Promise<void> {
    if (this.#config !== null && config.version <= this.#config.version) return;
    this.#config = config;
    this.ctx.storage.kv.put("config", config);
    this.ctx.waitUntil(this.#adopt(config));
  }

  /** Enters the queue. Always returns a ticket; `offer` returns any refusal. Idempotent by attempt id. */
  async enter(entry: Entry): Promise<Ticket> {
    return new Ticket(this.#desk.enter(entry), this.#desk);
  }

  /** A Card reports its slots. Returns true if further reports are wanted at once. */
  async report(report: CardReport): Promise<boolean> {
    this.#desk.report(report);
    return this.#desk.attentive;
  }

  /** Applies the outcome of a run whose ticket was lost when this object restarted. */
  async finished(attempt: string, finish: Finish, observed: Observed | null): Promise<void> {
    this.#desk.orphanFinished(attempt, finish, observed);
  }

  /** A card that takes work, for a request that needs no slot; null if there is none. `behind`: as in OfferReply. */
  async healthyCard(avoid: string[], version: number): Promise<{ card: string | null; behind: boolean }> {
    if (this.#config === null || this.#config.version < version) return { card: null, behind: true };
    const { cards } = this.#desk;
    // Just started: ask now, because the desk asks only while requests are queued.
    if (cards.health(Date.now()) === "unknown")
      await shortly(this.#ask(cards.silent().slice(0, ASKED_AT_ONCE)), HEAR_MS_MAX);
    return { card: cards.working(avoid, Date.now()), behind: false };
  }

  /** Which of these requests are queued or running here. */
  async present(requests: string[]): Promise<Presence> {
    const sure = Date.now() - this.#startedAt > SURE_MS && this.#desk.cards.silent().length === 0;
    return { sure, requests: present(this.#desk, requests) };
  }

  /** The estimate for a job. */
  async outlook(request: string, tenant: string, concurrent: number): Promise<Outlook> {
    return this.#desk.outlook(request, tenant, concurrent);
  }

  async status(): Promise<PoolStatus> {
    const desk = this.#desk;
    const { oldestAt } = desk;
    return {
      service: this.#config?.service ?? "",
      version: this.#config?.version ?? 0,
      paused: this.#config?.paused ?? false,
      queued: desk.queued,
      oldestWaitMs: oldestAt === null ? 0 : Math.max(0, Date.now() - oldestAt),
      waitingFor: waitingFor(desk),
      reports: desk.cards.reports(),
      serviceMs: desk.times?.totalMs ?? null,
      refused: { ...desk.refused },
      admitted: desk.admitted,
    };
  }

  // Private

  /** Resolves when every card that has not reported has been asked. */
  #adopt(config: PoolConfig): Promise<void> {
    this.#desk.configure(config);
    return this.#ask(this.#desk.cards.silent());
  }

  /** Requests reports from cards, and handles them like pushed ones. */
  async #ask(cards: string[]): Promise<void> {
    for (let i = 0; i < cards.length; i += ASKED_AT_ONCE) {
      await Promise.all(cards.slice(i, i + ASKED_AT_ONCE).map((card) => this.#askOne(card)));
    }
  }

  async #askOne(card: string): Promise<void> {
    try {
      const report = await withTimeout(this.env.CARD.getByName(card).report(this.#config?.service));
      // A Card that was never configured does not know its name.
      this.#desk.report({ ...report, card });
    } catch (error) {
      // The desk asks again while anybody waits.
      console.warn(JSON.stringify({ event: "card_unreachable", card, error: String(error) }));
    }
  }

  /** Records that the caller left the queue; its Worker ends with it and cannot do so. */
  #recordLeft({ tenant, request }: Entry): void {
    const told = this.env.TENANT.getByName(tenant);
    const recorded = told.record(request, "canceled", CLIENT_GONE, [], "nothing", LEFT);
    this.ctx.waitUntil(
      recorded.catch((error: unknown) =>
        console.warn(JSON.stringify({ event: "record_lost", request, error: String(error) })),
      ),
    );
  }

  #keepTimes(times: Times): void {
    const now = Date.now();
    if (now - this.#timesKeptAt < KEEP_TIMES_MS && now >= this.#timesKeptAt) return;
    this.#timesKeptAt = now;
    this.ctx.storage.kv.put("times", times);
  }
}
