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
import { charge, monthEnd, monthOf, type Months, NO_MONTHS, type Over, restore } from "./quota.ts";
import { type Bucket, EMPTY, giveBack, leftIn, REQUEST_DROPS, take } from "./rate.ts";
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

/** Runs that are remembered by their fingerprint. */
const LEADERS_MAX = 10_000;

interface TenantEnv {
  POOL: { getByName(name: string): PresenceRights };
}

export class Tenant extends DurableObject<TenantEnv> {
  readonly #records: Records;
  /** The tenant's own (empty name), and one for each service that ever had a rate of its own here. */
  readonly #buckets: Map<string, Bucket>;
  #months: Months;
  /** Who was charged last for a run, by its fingerprint; whom a restart forgot, or many others, nobody follows here. */
  readonly #leaders = new Map<string, string>();
  #writeTimer: ReturnType<typeof setTimeout> | null = null;
  #alarmAt: number | null = null;
  /** Requests that their Pool did not know, and since when. */
  readonly #missed = new Map<string, number>();

  constructor(ctx: DurableObjectState, env: TenantEnv) {
    super(ctx, env);
    this.#records = new Records(ctx.storage.sql);
    this.#buckets = ctx.storage.kv.get<Map<string, Bucket>>("buckets") ?? new Map();
    this.#months = ctx.storage.kv.get<Months>("months") ?? NO_MONTHS;
  }

  /**
   * One token and the counts' place in the quota, or neither. Who asks for what is under way already takes no quota: it
   * pays if it has to run by itself. The record of a request that passed stands as `queued`.
   */
  async admit(admission: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const { id, clientId, service, fingerprint, hits } = admission;
    const now = Date.now();
    const name = limits.ownRate ? service : "";
    const before = this.#buckets.get(name) ?? EMPTY;
    const known = this.#records.get(id);
    const follows = this.#isUnderWay(fingerprint, id);
    if (known !== null) return { ok: true, follows, ...leftIn(before, limits, now) };
    const costMilli = follows && !hits ? 0 : admission.costMilli;
    const counts = { results: follows ? 0 : admission.results, costMilli };
    const months = charge(this.#months, counts, limits.quota, now);
    if ("over" in months) return overQuota(months, before, limits, now);
    const { bucket, reply } = take(before, limits, now);
    this.#buckets.set(name, bucket);
    if (!reply.ok) return reply;
    this.#months = months;
    if (!follows) this.#lead(fingerprint, id);
    const fresh = { state: "queued" as const, status: null, results: [], at: now };
    const charged = { cost: REQUEST_DROPS, bucket: name, quota: counts.results, costMilli };
    this.#records.put({ id, clientId, service, ...fresh, ...charged });
    this.#writeSoon();
    return { ...reply, follows };
  }

  /** What a run of its own costs beyond what was taken when it was admitted: before it runs, and once. */
  async pay({ id, results, costMilli, fingerprint }: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const now = Date.now();
    const row = this.#records.get(id);
    const bucket = this.#buckets.get(row?.bucket ?? "") ?? EMPTY;
    if (row !== null && isOpen(row)) {
      const owed = { results: results - row.quota, costMilli: costMilli - row.costMilli };
      const months = charge(this.#months, owed, limits.quota, row.at);
      if ("over" in months) return overQuota(months, bucket, limits, now);
      this.#months = months;
      this.#lead(fingerprint, id);
      this.#records.put({ ...row, quota: results, costMilli });
      this.#writeSoon();
    }
    return { ok: true, ...leftIn(bucket, limits, now) };
  }

  /** The price of a hit, where hits have one, and no token; the request is over with these results. */
  async admitHit(hit: Admission, limits: TenantLimits, made: string[]): Promise<AdmitReply> {
    const { id, clientId, service, costMilli } = hit;
    const now = Date.now();
    const bucket = this.#buckets.get(limits.ownRate ? service : "") ?? EMPTY;
    if (this.#records.get(id) === null) {
      const months = charge(this.#months, { results: 0, costMilli }, limits.quota, now);
      if ("over" in months) return overQuota(months, bucket, limits, now);
      this.#months = months;
      const over = { state: "succeeded" as const, status: 200, results: made, at: now };
      this.#records.put({ id, clientId, service, ...over, cost: 0, bucket: "", quota: 0, costMilli });
      this.#writeSoon();
    }
    return { ok: true, ...leftIn(bucket, limits, now) };
  }

  /** A later state of an admitted request; what has ended stays ended. What it does not cost is given back, once. */
  async record(id: string, state: RunState, status: number | null, results: string[], charged: Charge): Promise<void> {
    const row = this.#records.get(id);
    if (row === null || !isOpen(row)) return;
    this.#missed.delete(id);
    const cost = charged === "nothing" ? 0 : row.cost;
    const quota = charged === "all" ? row.quota : 0;
    const costMilli = charged === "all" || charged === "price" ? row.costMilli : 0;
    this.#buckets.set(row.bucket, giveBack(this.#buckets.get(row.bucket) ?? EMPTY, row.cost - cost));
    const unmade = { results: row.quota - quota, costMilli: row.costMilli - costMilli };
    this.#months = restore(this.#months, unmade, monthOf(row.at));
    this.#records.put({ ...row, state, status, results, cost, quota, costMilli });
    this.#writeSoon();
  }

  /** By our id, else by the caller's own: the latest of that name. */
  async request(id: string): Promise<RequestState | null> {
    const row = this.#records.get(id) ?? this.#records.latestOf(id);
    if (row === null || Date.now() - row.at > RECORD_MS) return null;
    const waiting = { on: null, position: null };
    if (!isOpen(row)) return { ...row, ...waiting };
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

  /** Whether another request for the same has not ended yet, as far as this object remembers. */
  #isUnderWay(fingerprint: string | null, id: string): boolean {
    const leader = fingerprint === null ? undefined : this.#leaders.get(fingerprint);
    const row = leader === undefined || leader === id ? null : this.#records.get(leader);
    return row !== null && isOpen(row);
  }

  #lead(fingerprint: string | null, id: string): void {
    if (fingerprint === null) return;
    this.#leaders.delete(fingerprint);
    this.#leaders.set(fingerprint, id);
    for (const oldest of this.#leaders.keys()) {
      if (this.#leaders.size <= LEADERS_MAX) break;
      this.#leaders.delete(oldest);
    }
  }

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
      this.ctx.storage.kv.put("buckets", this.#buckets);
      this.ctx.storage.kv.put("months", this.#months);
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

function overQuota(over: Over, bucket: Bucket, limits: TenantLimits, now: number): AdmitReply {
  return { ok: false, ...over, ...leftIn(bucket, limits, now), retryAfterMs: monthEnd(now) - now };
}

function isOpen({ state }: { state: RunState }): boolean {
  return state === "queued" || state === "running";
}
