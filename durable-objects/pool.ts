/**
 * The Pool: the line in front of a service's cards, and who is offered which card. It never says yes, it offers; its
 * counts of the cards are advice that every Card's report mends. What it decides stands in desk.ts; here is what it
 * keeps, hears and asks.
 */
import { DurableObject } from "cloudflare:workers";
import { answered } from "./answer-protocol.ts";
import { Timers } from "./clock.ts";
import { Desk } from "./desk.ts";
import { present, waitingFor } from "./desk-view.ts";
import type { Times } from "./estimate.ts";
import { ASKED_AT_ONCE } from "./lookout.ts";
import type { CardReport, CardRights } from "./card-protocol.ts";
import type { Entry, Finish, Observed, Outlook, PoolConfig, PoolStatus, Presence } from "./pool-protocol.ts";
import { NOTHING_SPENT, type Spent, type TenantRights } from "./tenant-protocol.ts";
import { Ticket } from "./ticket.ts";

/** A Pool that starts hears its cards before it offers anything, unless they take longer than this. */
const HEAR_MS_MAX = 1_000;
/** Learned times are stored at most this often. */
const KEEP_TIMES_MS = 5_000;
/** Who waited before a restart is back in line after this, if it lives. */
const SURE_MS = 10_000;

/** The status in the record of a request whose caller hung up. */
const CLIENT_GONE = 499;
const LEFT: Spent = { ...NOTHING_SPENT, reason: "client_gone" };

interface PoolEnv {
  TENANT: { getByName(name: string): TenantRights };
  CARD: { getByName(name: string): CardRights };
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
    // What ran before the start counts against its tenant, and may be what a newcomer asks for.
    if (config !== null) void ctx.blockConcurrencyWhile(() => shortly(this.#adopt(config)));
  }

  /** Takes over a newer configuration; an older or equal one changes nothing. */
  async configure(config: PoolConfig): Promise<void> {
    if (this.#config !== null && config.version <= this.#config.version) return;
    this.#config = config;
    this.ctx.storage.kv.put("config", config);
    this.ctx.waitUntil(this.#adopt(config));
  }

  /** A place in line. Always a ticket; a no comes from its `offer`. Twice with one attempt is one place. */
  async enter(entry: Entry): Promise<Ticket> {
    return new Ticket(this.#desk.enter(entry), this.#desk);
  }

  /** A Card tells what became of its slots; true: the next news is wanted at once. */
  async report(report: CardReport): Promise<boolean> {
    this.#desk.report(report);
    return this.#desk.attentive;
  }

  /** How a run ended whose ticket was lost with this object's restart. */
  async finished(attempt: string, finish: Finish, observed: Observed | null): Promise<void> {
    this.#desk.orphanFinished(attempt, finish, observed);
  }

  /** A card that takes work, for a question that needs no slot; `behind` as in `enter`, no card when none does. */
  async healthyCard(avoid: string[], version: number): Promise<{ card: string | null; behind: boolean }> {
    if (this.#config === null || this.#config.version < version) return { card: null, behind: true };
    const { cards } = this.#desk;
    // Just started: ask now, for nobody waits in line for the answer.
    if (cards.health(Date.now()) === "unknown") await shortly(this.#ask(cards.silent().slice(0, ASKED_AT_ONCE)));
    return { card: cards.working(avoid, Date.now()), behind: false };
  }

  /** Which of these requests are here, in line or on a card. */
  async present(requests: string[]): Promise<Presence> {
    const sure = Date.now() - this.#startedAt > SURE_MS && this.#desk.cards.silent().length === 0;
    return { sure, requests: present(this.#desk, new Set(requests)) };
  }

  /** What is to be expected for a job. */
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

  /** Ends when every card that it knows nothing of was asked. */
  #adopt(config: PoolConfig): Promise<void> {
    this.#desk.configure(config);
    return this.#ask(this.#desk.cards.silent());
  }

  /** Asks cards for their reports; what they answer comes in as if they had told. */
  async #ask(cards: string[]): Promise<void> {
    for (let i = 0; i < cards.length; i += ASKED_AT_ONCE) {
      await Promise.all(cards.slice(i, i + ASKED_AT_ONCE).map((card) => this.#askOne(card)));
    }
  }

  async #askOne(card: string): Promise<void> {
    try {
      this.#desk.report(await answered(this.env.CARD.getByName(card).report(this.#config?.service)));
    } catch (error) {
      // Asked again by the desk while anybody waits.
      console.warn(JSON.stringify({ event: "card_silent", card, error: String(error) }));
    }
  }

  /** A caller who leaves the line takes its Worker along: nobody else can say what became of the request. */
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

/** Cards that are slow to be heard hold nobody up for longer. */
async function shortly(hearing: Promise<void>): Promise<void> {
  await Promise.race([hearing, scheduler.wait(HEAR_MS_MAX)]);
}
