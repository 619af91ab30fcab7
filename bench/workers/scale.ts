/**
 * Simulates callers of a real Pool and real Cards, inside the runtime. All slots are held, and a line waits. Then a few
 * holders end at a time, the next in line are offered and claim their slots, and new tickets enter. So the line keeps
 * its length, and the throughput of the objects is measured.
 */
import type { CardConfig } from "../../durable-objects/card-protocol.ts";
import type { Entry, PoolConfig } from "../../durable-objects/pool-protocol.ts";
import type { Env } from "../../worker/env.ts";

export { Card } from "../../durable-objects/card.ts";
export { Pool } from "../../durable-objects/pool.ts";
export { Tenant } from "../../durable-objects/tenant.ts";
export { Backlog, Courier, Idempotency, Job, RunJob } from "./unused.ts";

const SLOTS_EACH = 2;
const QUEUE_MAX = 1_000_000;
const TOLD_AT_ONCE = 50;
const HEARD_MS_MAX = 30_000;
const FILLED_MS_MAX = 60_000;
/** Holders that end at the same time, as runs do on a busy pool. */
const AT_ONCE = 12;
const POLL_MS = 50;
/** Parts of the window. The best one counts, because other load on the machine can only slow a part down. */
const PARTS = 4;

interface Asked {
  service: string;
  waiting: number;
  tenants: number;
  cards: number;
  /** Time before counting starts, once the line has its length. */
  warmUpMs: number;
  windowMs: number;
}

const worker: ExportedHandler<Env> = {
  async fetch(request, env) {
    const asked: Asked = await request.json();
    try {
      await furnish(env, asked);
      return Response.json(await measure(env, asked));
    } catch (error) {
      return new Response(String(error), { status: 500 });
    }
  },
};
export default worker;

async function furnish(env: Env, { service, cards }: Asked): Promise<void> {
  const names = Array.from({ length: cards }, (_, i) => `${service}-card-${i}`);
  for (let i = 0; i < cards; i += TOLD_AT_ONCE)
    await Promise.all(
      names.slice(i, i + TOLD_AT_ONCE).map((card) => env.CARD.getByName(card).configure(cardOf(service, card))),
    );
  const pool = env.POOL.getByName(service);
  const queue = { max: QUEUE_MAX, timeoutMs: 600_000 };
  const listed = names.map((card) => ({ card, weight: 1 }));
  const config: PoolConfig = { version: 1, service, paused: false, queue, cards: listed };
  await pool.configure(config);
  for (
    const until = Date.now() + HEARD_MS_MAX;
    (await pool.status()).reports.length < cards;
    await scheduler.wait(POLL_MS)
  )
    if (Date.now() > until) throw new Error("the pool does not hear its cards");
}

function cardOf(service: string, card: string): CardConfig {
  const listing = {
    service,
    origin: "http://127.0.0.1:9",
    transport: "direct" as const,
    breaker: { maxFails: 3, failTimeoutMs: 30_000 },
    drain: { probe: null, maxMs: 60_000 },
    abandon: "finish" as const,
  };
  return { version: 1, card, slots: SLOTS_EACH, state: "active", listings: [listing] };
}

/** Returning ends the invocation, and with it all callers that still wait or hold a slot. */
async function measure(env: Env, asked: Asked): Promise<{ grants: number; ms: number; queued: number }> {
  const crowd = new Crowd(env, asked);
  const pool = env.POOL.getByName(asked.service);
  await crowd.fill();
  await crowd.turnAll();
  await crowd.turnOver(asked.warmUpMs);
  let best = { grants: 0, ms: 1 };
  for (let part = 0; part < PARTS; part++) {
    const from = Date.now();
    const grants = await crowd.turnOver(asked.windowMs / PARTS);
    const ms = Date.now() - from;
    if (grants / ms > best.grants / best.ms) best = { grants, ms };
  }
  return { ...best, queued: (await pool.status()).queued };
}

/** A caller that holds a slot, until `end` is called; all others of the crowd are in line. */
interface Holder {
  end(): Promise<void>;
}

class Crowd {
  readonly #env: Env;
  readonly #asked: Asked;
  readonly #holders: Holder[] = [];
  /** One of these is resolved each time a caller becomes a holder. */
  readonly #awaited: { resolve: () => void; reject: (why: unknown) => void }[] = [];
  #entered = 0;
  #failure: unknown = null;

  constructor(env: Env, asked: Asked) {
    this.#env = env;
    this.#asked = asked;
  }

  /** Fills all slots, and then the line up to its length. */
  async fill(): Promise<void> {
    const { waiting, cards } = this.#asked;
    const slots = cards * SLOTS_EACH;
    for (let i = 0; i < slots; i++) {
      this.#enter();
      if (i % TOLD_AT_ONCE === TOLD_AT_ONCE - 1) await this.#held(i + 1);
    }
    await this.#held(slots);
    for (let i = 0; i < waiting; i++) this.#enter();
    const pool = this.#env.POOL.getByName(this.#asked.service);
    for (
      const until = Date.now() + FILLED_MS_MAX;
      (await pool.status()).queued < waiting;
      await scheduler.wait(POLL_MS)
    )
      if (this.#failure !== null || Date.now() > until) throw this.#failure ?? new Error("the line does not fill");
  }

  /**
   * Changes the holder of every slot once. A Card learns from its Pool's reply that the Pool wants updates at once, so
   * its first update is still delayed.
   */
  async turnAll(): Promise<void> {
    const { cards } = this.#asked;
    for (let i = 0; i < cards * SLOTS_EACH; i += TOLD_AT_ONCE)
      await Promise.all(Array.from({ length: Math.min(TOLD_AT_ONCE, cards * SLOTS_EACH - i) }, () => this.#turn()));
  }

  /**
   * Ends the oldest holders for `ms`, a few at a time, each time waiting until another caller holds a slot. Returns the
   * number of grants.
   */
  async turnOver(ms: number): Promise<number> {
    const until = Date.now() + ms;
    let grants = 0;
    const turns = async (): Promise<void> => {
      for (; Date.now() < until; grants++) await this.#turn();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, turns));
    return grants;
  }

  async #turn(): Promise<void> {
    const holder = this.#holders.shift();
    if (holder === undefined) throw this.#failure ?? new Error("nobody holds a slot");
    const follower = new Promise<void>((resolve, reject) => this.#awaited.push({ resolve, reject }));
    await Promise.all([follower, holder.end().then(() => this.#enter())]);
  }

  async #held(count: number): Promise<void> {
    for (const until = Date.now() + FILLED_MS_MAX; this.#holders.length < count; await scheduler.wait(POLL_MS))
      if (this.#failure !== null || Date.now() > until)
        throw this.#failure ?? new Error(`${this.#holders.length} of ${count} slots are held`);
  }

  #enter(): void {
    const { service, tenants } = this.#asked;
    const entry = entryOf(`${service}-${this.#entered}`, `tenant ${this.#entered++ % tenants}`);
    hold(this.#env, service, entry).then(
      (holder) => {
        this.#holders.push(holder);
        this.#awaited.shift()?.resolve();
      },
      (error: unknown) => {
        this.#failure ??= error;
        this.#awaited.shift()?.reject(error);
      },
    );
  }
}

/** Takes a caller from entering the Pool to a slot. */
async function hold(env: Env, service: string, entry: Entry): Promise<Holder> {
  const ticket = await env.POOL.getByName(service).enter(entry);
  for (;;) {
    const reply = await ticket.offer();
    if (reply.kind === "waiting") continue;
    if (reply.kind !== "offer") throw new Error(`no offer: ${JSON.stringify(reply)}`);
    const { attempt, request, tenant } = entry;
    const claimed = await env.CARD.getByName(reply.card).claim({
      attempt,
      request,
      tenant,
      service,
      fingerprint: null,
    });
    if ("no" in claimed) {
      await ticket.declined(reply.card, claimed.no);
      continue;
    }
    const { lease } = claimed;
    const told = ticket.claimed(claimed.number);
    const end = async (): Promise<void> => {
      await lease.release({ clean: true, health: "ok", reason: null });
      await told;
      await ticket.finished({ kind: "stored" }, { firstByteMs: 1, totalMs: 1 });
      lease[Symbol.dispose]();
      claimed[Symbol.dispose]();
      ticket[Symbol.dispose]();
    };
    return { end };
  }
}

function entryOf(attempt: string, tenant: string): Entry {
  return {
    attempt,
    request: attempt,
    tenant,
    weight: 1,
    concurrent: QUEUE_MAX,
    waiting: QUEUE_MAX,
    priority: "normal",
    arrivedAt: Date.now(),
    deadlineAt: null,
    fingerprint: null,
    avoid: [],
    again: false,
    job: false,
    version: 1,
  };
}
