/**
 * The Tenant: exact request rate across the world, and for a day what became of each request that took a ticket.
 *
 * Kept here: invariant 8 of DESIGN.md (an admission repeated with the same id takes one token).
 */
import { DurableObject } from "cloudflare:workers";
import type { RateLimit, RateReply, RequestRecord, RunState } from "./protocol.ts";
import { type Bucket, costOf, EMPTY, giveBack, take } from "./rate.ts";

/** How long a request's record is kept. */
const RECORD_MS = 86_400_000;
/** Old records go at most this often, this many at a time. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEPT_AT_ONCE = 5_000;

interface Row extends Record<string, SqlStorageValue> {
  id: string;
  client_id: string | null;
  service: string;
  state: string;
  status: number | null;
  results: string;
  at: number;
  /** What its token costs the bucket, ms; 0 once given back. */
  cost: number;
}

export class Tenant extends DurableObject {
  readonly #sql: SqlStorage;
  #bucket: Bucket;
  /** Whether the next sweep of old records is seen to. */
  #sweeping = false;

  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS requests (
        id TEXT PRIMARY KEY, client_id TEXT, service TEXT NOT NULL, state TEXT NOT NULL, status INTEGER,
        results TEXT NOT NULL, at INTEGER NOT NULL, cost REAL NOT NULL
      );
      CREATE INDEX IF NOT EXISTS requests_client ON requests (client_id, at);
      CREATE INDEX IF NOT EXISTS requests_at ON requests (at);
    `);
    this.#bucket = ctx.storage.kv.get<Bucket>("bucket") ?? EMPTY;
  }

  /** One token for this request, or when there is one. The record of a request that passed stands as `queued`. */
  async admit(request: { id: string; clientId: string | null; service: string }, limit: RateLimit): Promise<RateReply> {
    const now = Date.now();
    if (this.#row(request.id) !== undefined) return { ok: true, limit: limit.burst, remaining: 0, resetMs: this.#bucket.level };
    const { bucket, reply } = take(this.#bucket, limit, now);
    if (!reply.ok) return reply;
    this.#bucket = bucket;
    this.ctx.storage.kv.put("bucket", bucket);
    this.#sql.exec(
      "INSERT INTO requests (id, client_id, service, state, status, results, at, cost) VALUES (?, ?, ?, 'queued', NULL, '[]', ?, ?)",
      request.id,
      request.clientId,
      request.service,
      now,
      costOf(limit),
    );
    await this.#seeToSweep(now);
    return reply;
  }

  /** A later state of an admitted request; what has ended stays ended. A refusal of ours gives its token back, once. */
  async record(id: string, state: RunState, status: number | null, results: string[], refused: boolean): Promise<void> {
    const row = refused ? this.#row(id) : undefined;
    if (row !== undefined && row.cost > 0) {
      this.#bucket = giveBack(this.#bucket, row.cost);
      this.ctx.storage.kv.put("bucket", this.#bucket);
      this.#sql.exec("UPDATE requests SET cost = 0 WHERE id = ?", id);
    }
    this.#sql.exec(
      "UPDATE requests SET state = ?, status = ?, results = ? WHERE id = ? AND state IN ('queued', 'running')",
      state,
      status,
      JSON.stringify(results),
      id,
    );
  }

  /** By our id, else by the caller's own: the latest of that name. */
  async request(id: string): Promise<RequestRecord | null> {
    const row = this.#row(id) ?? this.#sql.exec<Row>("SELECT * FROM requests WHERE client_id = ? ORDER BY at DESC, rowid DESC LIMIT 1", id).toArray()[0];
    if (row === undefined || Date.now() - row.at > RECORD_MS) return null;
    return {
      id: row.id,
      clientId: row.client_id,
      service: row.service,
      state: row.state as RunState,
      status: row.status,
      results: JSON.parse(row.results) as string[],
      at: row.at,
    };
  }

  override async alarm(): Promise<void> {
    const old = Date.now() - RECORD_MS;
    this.#sql.exec("DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at < ? ORDER BY at LIMIT ?)", old, SWEPT_AT_ONCE);
    const { count, oldest } = this.#sql.exec<{ count: number; oldest: number | null }>("SELECT count(*) AS count, min(at) AS oldest FROM requests").one();
    if (count === 0) return;
    const soon = (oldest ?? 0) < old ? 1_000 : SWEEP_EVERY_MS;
    await this.ctx.storage.setAlarm(Date.now() + soon);
  }

  #row(id: string): Row | undefined {
    return this.#sql.exec<Row>("SELECT * FROM requests WHERE id = ?", id).toArray()[0];
  }

  async #seeToSweep(now: number): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(now + SWEEP_EVERY_MS);
  }
}
