/**
 * The Tenant: exact request rate and quota across the world, and for a day what became of each request that took a ticket.
 *
 * Kept here: invariants 8 and 9 of DESIGN.md: an admission repeated with the same id takes one token, and a refused
 * request gets it back.
 */
import { DurableObject } from "cloudflare:workers";
import type { Admission, AdmitReply, Charge, RequestRecord, RunState, TenantLimits } from "./protocol.ts";
import { charge, monthEnd, monthOf, restore, UNUSED, type Used } from "./quota.ts";
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
  #used: Used;
  #writeTimer: ReturnType<typeof setTimeout> | null = null;
  /** Whether the next sweep of old records is seen to. */
  #sweeping = false;

  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    this.#records = new Records(ctx.storage.sql);
    this.#bucket = ctx.storage.kv.get<Bucket>("bucket") ?? EMPTY;
    this.#used = ctx.storage.kv.get<Used>("used") ?? UNUSED;
  }

  /**
   * One token and the results' place in the quota, or neither. The record of a request that passed stands as `queued`.
   */
  async admit({ id, clientId, service, results }: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const now = Date.now();
    if (this.#records.get(id) !== null)
      return { ok: true, limit: limits.burst, remaining: 0, resetMs: resetMs(this.#bucket, limits) };
    const used = charge(this.#used, results, limits.resultsPerMonth, now);
    if (used === null) return { ok: false, quota: limits.resultsPerMonth ?? 0, retryAfterMs: monthEnd(now) - now };
    const { bucket, reply } = take(this.#bucket, limits, now);
    this.#bucket = bucket;
    if (!reply.ok) return reply;
    this.#used = used;
    const fresh = { state: "queued" as const, status: null, results: [], at: now };
    this.#records.put({ id, clientId, service, ...fresh, cost: REQUEST_DROPS, quota: results });
    this.#writeSoon();
    return reply;
  }

  /** A later state of an admitted request; what has ended stays ended. What it does not cost is given back, once. */
  async record(id: string, state: RunState, status: number | null, results: string[], charged: Charge): Promise<void> {
    const row = this.#records.get(id);
    if (row === null || (row.state !== "queued" && row.state !== "running")) return;
    const cost = charged === "nothing" ? 0 : row.cost;
    const quota = charged === "all" ? row.quota : 0;
    this.#bucket = giveBack(this.#bucket, row.cost - cost);
    this.#used = restore(this.#used, row.quota - quota, monthOf(row.at));
    this.#records.put({ ...row, state, status, results, cost, quota });
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
      this.ctx.storage.kv.put("used", this.#used);
      this.ctx.waitUntil(this.#seeToSweep());
    }, WRITE_SOON_MS);
  }

  async #seeToSweep(): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(Date.now() + SWEEP_EVERY_MS);
  }
}
