/**
 * The Tenant: exact request rate and quota across the world, and for a day what became of each request that took a ticket.
 * What a request does until it has ended is asked of its Pool; one that its Pool does not know any more was lost with
 * whoever ran it, and has failed.
 *
 * Kept here: invariants 8 and 9 of DESIGN.md: an admission repeated with the same id takes one token, and a refused
 * or lost request gets it back.
 */
import { DurableObject } from "cloudflare:workers";
import type {
  Admission,
  AdmitReply,
  Charge,
  Presence,
  PresenceRights,
  RequestState,
  RunState,
  TenantLimits,
} from "./protocol.ts";
import { charge, monthEnd, monthOf, restore, UNUSED, type Used } from "./quota.ts";
import { type Bucket, EMPTY, giveBack, REQUEST_DROPS, resetMs, take } from "./rate.ts";
import { RECORD_MS, Records, type Row } from "./records.ts";

/** Changes of so long a time are written in one commit; a crash forgets at most that much. */
const WRITE_SOON_MS = 100;
/** Old records go at most this often. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_ON_MS = 1_000;
/** Requests that have been under way for so long are looked after, this often. */
const LOOK_EVERY_MS = 60_000;
/** A request that its Pool has not known for so long is lost: its end would have been told by now. */
const LOST_MS = 30_000;

interface TenantEnv {
  POOL: { getByName(name: string): PresenceRights };
}

export class Tenant extends DurableObject<TenantEnv> {
  readonly #records: Records;
  #bucket: Bucket;
  #used: Used;
  #writeTimer: ReturnType<typeof setTimeout> | null = null;
  #alarmAt: number | null = null;
  /** Requests that their Pool did not know, and since when. */
  readonly #missed = new Map<string, number>();

  constructor(ctx: DurableObjectState, env: TenantEnv) {
    super(ctx, env);
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

  /** One token, and the place in the quota of all their results, or nothing. */
  async admitAll(admissions: Admission[], limits: TenantLimits): Promise<AdmitReply> {
    const [first, ...rest] = admissions;
    if (first === undefined) throw new RangeError("nothing to admit");
    const all = { ...first, results: admissions.reduce((sum, { results }) => sum + results, 0) };
    const reply = await this.admit(all, limits);
    if (!("ok" in reply) || !reply.ok) return reply;
    const record = this.#records.get(first.id);
    if (record === null || !isOpen(record)) return reply;
    this.#records.put({ ...record, quota: first.results });
    const { at } = record;
    const fresh = { state: "queued" as const, status: null, results: [], at, cost: 0 };
    for (const { results: quota, ...one } of rest)
      if (this.#records.get(one.id) === null) this.#records.put({ ...one, ...fresh, quota });
    return reply;
  }

  /** A later state of an admitted request; what has ended stays ended. What it does not cost is given back, once. */
  async record(id: string, state: RunState, status: number | null, results: string[], charged: Charge): Promise<void> {
    const row = this.#records.get(id);
    if (row === null || !isOpen(row)) return;
    this.#missed.delete(id);
    const cost = charged === "nothing" ? 0 : row.cost;
    const quota = charged === "all" ? row.quota : 0;
    this.#bucket = giveBack(this.#bucket, row.cost - cost);
    this.#used = restore(this.#used, row.quota - quota, monthOf(row.at));
    this.#records.put({ ...row, state, status, results, cost, quota });
    this.#writeSoon();
  }

  /** By our id, else by the caller's own: the latest of that name. */
  async request(id: string): Promise<RequestState | null> {
    const row = this.#records.get(id) ?? this.#records.latestOf(id);
    if (row === null || Date.now() - row.at > RECORD_MS) return null;
    const waiting = { on: null, position: null };
    if (!isOpen(row) || isJob(row)) return { ...row, ...waiting };
    const presence = await this.#lookAfter(row.service, [row]);
    const record = this.#records.get(row.id) ?? row;
    if (!isOpen(record)) return { ...record, ...waiting };
    const here = presence?.requests[row.id];
    if (here !== undefined) return { ...record, ...here };
    // Out of its Pool's hands and not ended: how it ended is on its way.
    return { ...record, ...waiting, state: presence?.sure ? "running" : record.state };
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = null;
    const now = Date.now();
    for (const [service, rows] of Map.groupBy(this.#records.open(now - LOOK_EVERY_MS), (row) => row.service))
      await this.#lookAfter(service, rows);
    // What was found lost is written before the old goes: it may be old itself.
    this.#records.write();
    const { left, more } = this.#records.sweep(now);
    const isBusy = this.#records.open(now).length > 0;
    if (left) await this.#wakeAt(now + (more ? SWEEP_ON_MS : isBusy ? LOOK_EVERY_MS : SWEEP_EVERY_MS));
  }

  // Private

  /** Asks the Pool for requests that have not ended; one that it has not known for a while is lost. */
  async #lookAfter(service: string, rows: Row[]): Promise<Presence | null> {
    const presence = await this.#present(
      service,
      rows.map((row) => row.id),
    );
    if (presence === null) return null;
    const now = Date.now();
    for (const { id } of rows) {
      // It may have ended while the Pool was asked.
      const row = this.#records.get(id);
      const isHere = presence.requests[id] !== undefined || !presence.sure;
      if (isHere || row === null || !isOpen(row)) this.#missed.delete(id);
      else if (now - (this.#missed.get(id) ?? now) < LOST_MS) this.#missed.set(id, this.#missed.get(id) ?? now);
      else await this.record(id, "failed", null, [], "nothing");
    }
    return presence;
  }

  async #present(service: string, ids: string[]): Promise<Presence | null> {
    try {
      return await this.env.POOL.getByName(service).present(ids);
    } catch (error) {
      // Asked again at the next look.
      console.warn(JSON.stringify({ event: "pool_silent", service, error: String(error) }));
      return null;
    }
  }

  #writeSoon(): void {
    if (this.#writeTimer !== null) return;
    this.#writeTimer = setTimeout(() => {
      this.#writeTimer = null;
      this.#records.write();
      this.ctx.storage.kv.put("bucket", this.#bucket);
      this.ctx.storage.kv.put("used", this.#used);
      this.ctx.waitUntil(this.#wakeAt(Date.now() + LOOK_EVERY_MS));
    }, WRITE_SOON_MS);
  }

  /** An alarm at this time, or before. */
  async #wakeAt(at: number): Promise<void> {
    if (this.#alarmAt !== null && this.#alarmAt <= at) return;
    this.#alarmAt = at;
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }
}

/** What a job does is its Job's to say. */
function isJob({ id }: { id: string }): boolean {
  return id.startsWith("job_");
}

function isOpen({ state }: { state: RunState }): boolean {
  return state === "queued" || state === "running";
}
