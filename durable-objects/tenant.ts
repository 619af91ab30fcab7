/**
 * The Tenant: exact request rate across the world, and for a day what became of each request that took a ticket.
 *
 * Kept here: invariants 8 and 9 of DESIGN.md: an admission repeated with the same id takes one token, and a refused
 * request gets it back.
 */
import { DurableObject } from "cloudflare:workers";
import type { RateLimit, RateReply, RequestRecord, RunState } from "./protocol.ts";
import { type Bucket, EMPTY, giveBack, REQUEST_DROPS, resetMs, take } from "./rate.ts";
import { RECORD_MS, Records } from "./records.ts";

/** Changes of so long a time are written in one commit; a crash forgets at most that much. */
const WRITE_SOON_MS = 100;
/** Old records go at most this often. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_ON_MS = 1_000;

export class Tenant extends DurableObject {
  readonly #records: Records;
  #bucket: Bucket;
  #writeTimer: ReturnType<typeof setTimeout> | null = null;
  /** Whether the next sweep of old records is seen to. */
  #sweeping = false;

  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    this.#records = new Records(ctx.storage.sql);
    this.#bucket = ctx.storage.kv.get<Bucket>("bucket") ?? EMPTY;
  }

  /** One token for this request, or when there is one. The record of a request that passed stands as `queued`. */
  async admit(request: { id: string; clientId: string | null; service: string }, limit: RateLimit): Promise<RateReply> {
    const now = Date.now();
    const { id, clientId, service } = request;
    if (this.#records.get(id) !== null)
      return { ok: true, limit: limit.burst, remaining: 0, resetMs: resetMs(this.#bucket, limit) };
    const { bucket, reply } = take(this.#bucket, limit, now);
    this.#bucket = bucket;
    if (!reply.ok) return reply;
    this.#records.put({
      id,
      clientId,
      service,
      state: "queued",
      status: null,
      results: [],
      at: now,
      cost: REQUEST_DROPS,
    });
    this.#writeSoon();
    return reply;
  }

  /** A later state of an admitted request; what has ended stays ended. A refusal of ours gives its token back, once. */
  async record(id: string, state: RunState, status: number | null, results: string[], refused: boolean): Promise<void> {
    const row = this.#records.get(id);
    if (row === null || (row.state !== "queued" && row.state !== "running")) return;
    if (refused) this.#bucket = giveBack(this.#bucket, row.cost);
    this.#records.put({ ...row, state, status, results, cost: refused ? 0 : row.cost });
    this.#writeSoon();
  }

  /** By our id, else by the caller's own: the latest of that name. */
  async request(id: string): Promise<RequestRecord | null> {
    const row = this.#records.get(id) ?? this.#records.latestOf(id);
    return row === null || Date.now() - row.at > RECORD_MS ? null : row;
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    const { left, more } = this.#records.sweep(now);
    this.#sweeping = left;
    if (left) await this.ctx.storage.setAlarm(now + (more ? SWEEP_ON_MS : SWEEP_EVERY_MS));
  }

  #writeSoon(): void {
    if (this.#writeTimer !== null) return;
    this.#writeTimer = setTimeout(() => {
      this.#writeTimer = null;
      this.#records.write();
      this.ctx.storage.kv.put("bucket", this.#bucket);
      this.ctx.waitUntil(this.#seeToSweep());
    }, WRITE_SOON_MS);
  }

  async #seeToSweep(): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + SWEEP_EVERY_MS);
  }
}
