/** Helpers for the tests of the Pool: a Pool over separate cards, and callers that do what the Worker does. */
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, onTestFinished } from "vitest";
import type { CardConfig, Ending } from "../../durable-objects/card-protocol.ts";
import type { Entry, Finish, OfferReply, PoolConfig } from "../../durable-objects/pool-protocol.ts";
import type { Env } from "../../worker/env.ts";
import { type CardUnderTest, claim, CLEAN, eventually, fresh, makeCard } from "./objects.ts";

/** Upper bound for a reply that does not wait for a timeout in the object. */
const AT_ONCE_MS = 1_000;

export type PoolStub = ReturnType<Env["POOL"]["getByName"]>;
export type TicketStub = Awaited<ReturnType<PoolStub["enter"]>>;

export interface PoolUnderTest {
  service: string;
  stub: PoolStub;
  cards: CardUnderTest[];
  config: PoolConfig;
}

/** Creates a Pool that has heard its Cards; by default one card with two slots. */
export async function makePool(
  cards: Partial<CardConfig>[] = [{}],
  more: Partial<PoolConfig> = {},
): Promise<PoolUnderTest> {
  const service = fresh("service");
  const made = await Promise.all(cards.map((card) => makeCard(service, card)));
  const pool: PoolUnderTest = {
    service,
    stub: env.POOL.getByName(service),
    cards: made,
    config: {
      version: 1,
      service,
      paused: false,
      queue: { max: 1_000, timeoutMs: 60_000 },
      cards: made.map(({ id }) => ({ card: id, weight: 1 })),
      ...more,
    },
  };
  await pool.stub.configure(pool.config);
  await eventually(async () => expect((await pool.stub.status()).reports).toHaveLength(made.length));
  return pool;
}

/** Changes the Pool's configuration, with the next version number. */
export async function reconfigurePool(pool: PoolUnderTest, more: Partial<PoolConfig>): Promise<void> {
  pool.config = { ...pool.config, version: pool.config.version + 1, ...more };
  await pool.stub.configure(pool.config);
}

/** Crashes the Pool while its tickets are open. */
export async function crashPool(pool: PoolUnderTest): Promise<void> {
  await expect(runInDurableObject(pool.stub, (_, state) => state.abort("crash"))).rejects.toThrow("crash");
  pool.stub = env.POOL.getByName(pool.service);
}

let arrivals = 0;

/** A request of tenant `acme`; later ones have later arrival times. */
function entry(more: Partial<Entry> = {}): Entry {
  const attempt = fresh("att");
  return {
    attempt,
    request: `req-of-${attempt}`,
    tenant: "acme",
    weight: 1,
    concurrent: 1_000,
    waiting: 1_000,
    priority: "normal",
    arrivedAt: Date.now() + ++arrivals,
    deadlineAt: null,
    fingerprint: null,
    avoid: [],
    again: false,
    job: false,
    version: 1,
    ...more,
  };
}

/** One request, step by step. */
export class Caller {
  readonly pool: PoolUnderTest;
  readonly entry: Entry;
  #ticket?: TicketStub;
  #disposed = false;

  constructor(pool: PoolUnderTest, more: Partial<Entry> = {}) {
    this.pool = pool;
    this.entry = entry(more);
  }

  get ticket(): TicketStub {
    if (this.#ticket === undefined) throw new Error("not in line");
    return this.#ticket;
  }

  async enter(): Promise<this> {
    this.#ticket = await this.pool.stub.enter(this.entry);
    onTestFinished(() => this.vanish());
    return this;
  }

  /** The next final reply: an offer, a refusal or the outcome of a leader's run. */
  async reply(): Promise<OfferReply> {
    for (;;) {
      const reply = await this.ticket.offer();
      if (reply.kind !== "waiting") return reply;
    }
  }

  /** The offered card. */
  async offer(): Promise<string> {
    const reply = await this.reply();
    if (reply.kind !== "offer") throw new Error(`no offer: ${JSON.stringify(reply)}`);
    return reply.card;
  }

  /** The reply, which must arrive without waiting for a timeout in the Pool. */
  async replyAtOnce(): Promise<OfferReply> {
    const from = performance.now();
    const reply = await this.reply();
    expect(performance.now() - from).toBeLessThan(AT_ONCE_MS);
    return reply;
  }

  async refusal() {
    const reply = await this.reply();
    if (reply.kind !== "refused") throw new Error(`no refusal: ${JSON.stringify(reply)}`);
    return reply.refusal;
  }

  /** Claims a slot of the offered card. */
  async start(card?: string): Promise<Running> {
    const offered = card ?? (await this.offer());
    const stub = env.CARD.getByName(offered);
    const { attempt, request, tenant, fingerprint, address } = this.entry;
    const from = address === undefined ? {} : { address };
    const asked = { attempt, request, tenant, service: this.pool.service, fingerprint, ...from };
    const { number, lease } = await claim(stub, asked);
    await this.ticket.claimed(number);
    const end = async (ending: Ending = CLEAN, finish: Finish = { kind: "stored" }) => {
      await lease.release(ending);
      await this.ticket.finished(finish, { firstByteMs: 10, totalMs: 20 });
      this.vanish();
    };
    return { card: offered, number, attempt, end, vanish: () => (lease[Symbol.dispose](), this.vanish()) };
  }

  /** Disposes the ticket without telling the Pool. */
  vanish(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.ticket[Symbol.dispose]();
  }
}

export interface Running {
  card: string;
  number: number;
  attempt: string;
  end(ending?: Ending, finish?: Finish): Promise<void>;
  /** Disposes the lease and the ticket without a release. */
  vanish(): void;
}

export async function enter(pool: PoolUnderTest, more: Partial<Entry> = {}): Promise<Caller> {
  return await new Caller(pool, more).enter();
}

export async function enterMany(pool: PoolUnderTest, count: number, more: Partial<Entry> = {}): Promise<Caller[]> {
  return await Promise.all(Array.from({ length: count }, () => enter(pool, more)));
}

/** Starts a request that gets an offer. */
export async function start(pool: PoolUnderTest, more: Partial<Entry> = {}): Promise<Running> {
  return await (await enter(pool, more)).start();
}

export async function startMany(pool: PoolUnderTest, count: number, more: Partial<Entry> = {}): Promise<Running[]> {
  return await Promise.all(Array.from({ length: count }, () => start(pool, more)));
}

export async function queued(pool: PoolUnderTest): Promise<number> {
  return (await pool.stub.status()).queued;
}

/** Attempts that hold a slot, according to the Pool. */
export async function held(pool: PoolUnderTest): Promise<string[]> {
  const { reports } = await pool.stub.status();
  return reports.flatMap((report) => report.held.map(({ attempt }) => attempt));
}

/** Waits until the Pool knows of this number of held slots. */
export async function expectHeld(pool: PoolUnderTest, count: number): Promise<void> {
  await eventually(async () => expect(await held(pool)).toHaveLength(count));
}
