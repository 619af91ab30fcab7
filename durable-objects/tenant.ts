/**
 * The Tenant: exact rate limit and quota across all locations, usage, and for a day the outcome of each request that
 * took a ticket. The state of an open request is asked of its Pool. If the Pool no longer knows it, the request was
 * lost with its Worker and counts as failed.
 *
 * Enforces invariants 8 and 9 of DESIGN.md: repeating an admission with the same id takes one token, and a refused or
 * lost request gets it back. The end of a request is committed together with its usage before it is acknowledged, so a
 * request counts once, whatever restarts or is repeated.
 */
import { DurableObject } from "cloudflare:workers";
import { LRUCache } from "lru-cache";
import { wakeBy } from "./alarm.ts";
import { withTimeout } from "./timeout.ts";
import type { Presence, PresenceRpc } from "./pool-protocol.ts";
import {
  type Admission,
  type AdmitReply,
  type Charge,
  dayOf,
  NOTHING_SPENT,
  type RequestState,
  type RunState,
  type Spent,
  type TenantLimits,
  type UsagePage,
  type UsageQuery,
  type UsageRow,
} from "./tenant-protocol.ts";
import { charge, monthEnd, monthOf, type Months, NO_MONTHS, type Over, restore } from "./quota.ts";
import { type Bucket, EMPTY, giveBack, leftIn, REQUEST_DROPS, take } from "./rate.ts";
import { RECORD_MS, Records, type Row } from "./records.ts";
import { NO_USE, useOf } from "./usage.ts";
import { UsageStore } from "./usage-store.ts";

/** Interval at which admissions are committed; a crash loses at most this much. */
const WRITE_SOON_MS = 100;
/** Ends of requests within this interval share a commit; their callers wait for it. */
const GATHER_MS = 5;
/** Minimum interval between sweeps of old records. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_ON_MS = 1_000;
/** How long a request is open before it is checked, and how often. */
const LOOK_EVERY_MS = 60_000;
/** A request unknown to its Pool for this long is lost: its end would have been reported by now. */
const LOST_MS = 30_000;
/** The usage of a lost request, as far as it is known. */
const LOST: Spent = { ...NOTHING_SPENT, reason: "internal" };
/** Maximum number of fingerprints in `#leaders`. */
const LEADERS_MAX = 10_000;

interface TenantEnv {
  POOL: { getByName(name: string): PresenceRpc };
}

export class Tenant extends DurableObject<TenantEnv> {
  /** Created on first use, so that nothing remains of a deleted tenant, not even empty tables. */
  #stores: { records: Records; usage: UsageStore } | null = null;
  /** The tenant's bucket (empty name), and one per service that ever had its own rate limit. */
  #buckets: Map<string, Bucket>;
  #months: Months;
  /**
   * The request last charged for a run, by fingerprint. Kept in memory only and bounded: after a restart or an
   * eviction, identical requests are charged.
   */
  readonly #leaders = new LRUCache<string, string>({ max: LEADERS_MAX });
  /** When the tenant was deleted; later reports are discarded. */
  #forgottenAt: number | null;
  #isWritten = true;
  #writtenAt = 0;
  #gathered: Promise<void> | null = null;
  #writeTimer: ReturnType<typeof setTimeout> | null = null;
  /** Requests that their Pool did not know, and since when. */
  readonly #missed = new Map<string, number>();

  constructor(ctx: DurableObjectState, env: TenantEnv) {
    super(ctx, env);
    this.#forgottenAt = ctx.storage.kv.get<number>("forgotten") ?? null;
    this.#buckets = ctx.storage.kv.get<Map<string, Bucket>>("buckets") ?? new Map();
    this.#months = ctx.storage.kv.get<Months>("months") ?? NO_MONTHS;
  }

  /**
   * Takes one token and the counts' share of the quota, or neither. If the tenant already has the same request in
   * progress, no results are taken (and no price, unless `hits`); the request pays if it has to run itself. An admitted
   * request is recorded as `queued`.
   */
  async admit(admission: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const { id, clientId, requestId = null, service, key, fingerprint, hits } = admission;
    const now = Date.now();
    const name = limits.ownRate ? service : "";
    const before = this.#buckets.get(name) ?? EMPTY;
    const known = this.#records.get(id);
    const follows = this.#isUnderWay(fingerprint, id);
    if (known !== null) {
      const owes = known.quota < admission.results || known.costMilli < admission.costMilli;
      return { ok: true, follows: owes && isOpen(known), ...leftIn(before, limits, now) };
    }
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
    this.#records.put({ id, clientId, requestId, service, key, ...fresh, ...charged });
    this.#writeSoon();
    return { ...reply, follows };
  }

  /** Charges a request that runs itself for what its admission did not take. Called before it runs; charges once. */
  async pay({ id, results, costMilli, fingerprint }: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const now = Date.now();
    const row = this.#records.get(id);
    const bucket = this.#buckets.get(row?.bucket ?? "") ?? EMPTY;
    if (row !== null && isOpen(row)) {
      const owed = { results: results - row.quota, costMilli: costMilli - row.costMilli };
      const months = charge(this.#months, owed, limits.quota, row.at);
      if ("over" in months)
        return { ...overQuota(months, bucket, limits, now), follows: this.#isUnderWay(fingerprint, id) };
      this.#months = months;
      this.#lead(fingerprint, id);
      this.#records.put({ ...row, quota: results, costMilli });
      this.#writeSoon();
    }
    return { ok: true, ...leftIn(bucket, limits, now) };
  }

  /** Charges the price of a cache hit, if hits have one, without a token, and records the request as succeeded. */
  async admitHit(hit: Admission, limits: TenantLimits, made: string[]): Promise<AdmitReply> {
    const { id, clientId, service, key, costMilli } = hit;
    const now = Date.now();
    const bucket = this.#buckets.get(limits.ownRate ? service : "") ?? EMPTY;
    if (this.#records.get(id) === null) {
      const months = charge(this.#months, { results: 0, costMilli }, limits.quota, now);
      if ("over" in months) return overQuota(months, bucket, limits, now);
      this.#months = months;
      const over = { state: "succeeded" as const, status: 200, results: made, at: now };
      this.#records.put({ id, clientId, service, key, ...over, cost: 0, bucket: "", quota: 0, costMilli });
      this.#usage.add({ service, key, day: dayOf(now) }, { ...NO_USE, costMilli });
      this.#writeSoon();
    }
    return { ok: true, ...leftIn(bucket, limits, now) };
  }

  /** Takes one token for all, and the quota for the sum of their results and prices, or nothing. */
  async admitAll(admissions: Admission[], limits: TenantLimits): Promise<AdmitReply> {
    const [first, ...rest] = admissions;
    if (first === undefined) throw new RangeError("nothing to admit");
    const sum = (of: "results" | "costMilli"): number => admissions.reduce((total, one) => total + one[of], 0);
    const all = { ...first, fingerprint: null, results: sum("results"), costMilli: sum("costMilli") };
    const reply = await this.admit(all, limits);
    const record = reply.ok ? this.#records.get(first.id) : null;
    if (record === null || !isOpen(record)) return reply;
    this.#records.put({ ...record, quota: first.results, costMilli: first.costMilli });
    const { at, bucket } = record;
    const fresh = { state: "queued" as const, status: null, results: [], at, cost: 0, bucket };
    for (const { id, clientId, service, key, results: quota, costMilli } of rest)
      if (this.#records.get(id) === null) this.#records.put({ id, clientId, service, key, ...fresh, quota, costMilli });
    return reply;
  }

  /**
   * Records a later state of an admitted request; an end is final. Refunds what the request does not cost and adds its
   * usage, each once. Resolves when this is committed.
   */
  async record(
    id: string,
    state: RunState,
    status: number | null,
    results: string[],
    charged: Charge,
    spent: Spent = NOTHING_SPENT,
  ): Promise<void> {
    this.#note(id, state, status, results, charged, spent);
    await this.#written();
  }

  /** Adds usage that was counted elsewhere. Idempotent by batch id. Resolves when it is committed. */
  async tally(batch: string, rows: UsageRow[]): Promise<void> {
    if (this.#forgottenAt !== null) return;
    this.#usage.addBatch(batch, rows, Date.now());
    this.#writeSoon();
    await this.#written();
  }

  async usage(query: UsageQuery): Promise<UsagePage> {
    this.#write();
    return this.#usage.page(query);
  }

  /** Deletes everything in one step, regardless of size. Requests that are still running are not recorded any more. */
  async forget(): Promise<void> {
    await this.ctx.blockConcurrencyWhile(async () => {
      await this.#removeAll();
      [this.#buckets, this.#months, this.#isWritten] = [new Map(), NO_MONTHS, true];
      this.#leaders.clear();
      this.#forgottenAt = Date.now();
      this.ctx.storage.kv.put("forgotten", this.#forgottenAt);
      await wakeBy(this.ctx.storage, this.#forgottenAt + RECORD_MS);
    });
  }

  /** Finds a request by our id, else the job submitted by it, else the latest with that client id. */
  async request(id: string): Promise<RequestState | null> {
    const row = this.#records.find(id);
    if (row === null || Date.now() - row.at > RECORD_MS) return null;
    const waiting = { on: null, position: null };
    if (!isOpen(row) || isJob(row)) return { ...row, ...waiting };
    const presence = await this.#lookAfter(row.service, [row]);
    const record = this.#records.get(row.id) ?? row;
    if (!isOpen(record)) return { ...record, ...waiting };
    const here = presence?.requests[row.id];
    if (here !== undefined) return { ...record, ...here };
    // It has left its Pool but not ended: its end is about to be reported.
    return { ...record, ...waiting, state: presence?.sure ? "running" : record.state };
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    if (this.#forgottenAt !== null) {
      const until = this.#forgottenAt + RECORD_MS;
      await (now < until ? wakeBy(this.ctx.storage, until) : this.#removeAll());
      return;
    }
    this.#write();
    for (const [service, rows] of Map.groupBy(this.#records.open(now - LOOK_EVERY_MS), (row) => row.service))
      await this.#lookAfter(service, rows);
    // Write requests found lost before the sweep: their records may be old enough to be removed.
    this.#write();
    const { left, more } = this.#records.sweep(now);
    const usageDueAt = this.#usage.sweep(now);
    const isBusy = this.#records.open(now).length > 0;
    if (left) await wakeBy(this.ctx.storage, now + (more ? SWEEP_ON_MS : isBusy ? LOOK_EVERY_MS : SWEEP_EVERY_MS));
    if (usageDueAt !== null) await wakeBy(this.ctx.storage, Math.max(usageDueAt, now + SWEEP_ON_MS));
  }

  // Private

  get #records(): Records {
    return this.#open().records;
  }

  get #usage(): UsageStore {
    return this.#open().usage;
  }

  #open(): { records: Records; usage: UsageStore } {
    const { sql } = this.ctx.storage;
    this.#stores ??= { records: new Records(sql), usage: new UsageStore(sql) };
    return this.#stores;
  }

  #note(id: string, state: RunState, status: number | null, results: string[], charged: Charge, spent: Spent): void {
    const known = this.#records.get(id);
    const row = known ?? reopened(id, spent, Date.now());
    if (row === null || !isOpen(row) || this.#forgottenAt !== null) return;
    this.#missed.delete(id);
    const cost = charged === "nothing" ? 0 : row.cost;
    const quota = charged === "all" ? row.quota : 0;
    const costMilli = charged === "all" || charged === "price" ? row.costMilli : 0;
    this.#buckets.set(row.bucket, giveBack(this.#buckets.get(row.bucket) ?? EMPTY, row.cost - cost));
    const unmade = { results: row.quota - quota, costMilli: row.costMilli - costMilli };
    // A forgotten admission took no quota that could be refunded.
    if (known !== null) this.#months = restore(this.#months, unmade, monthOf(row.at));
    this.#records.put({ ...row, state, status, results, cost, quota, costMilli });
    if (!isOpen({ state })) this.#usage.add({ ...row, day: dayOf(row.at) }, useOf(spent, row.quota, costMilli));
    this.#writeSoon();
  }

  /** Whether another request with the same fingerprint is still open, as far as this object remembers. */
  #isUnderWay(fingerprint: string | null, id: string): boolean {
    const leader = fingerprint === null ? undefined : this.#leaders.get(fingerprint);
    const row = leader === undefined || leader === id ? null : this.#records.get(leader);
    return row !== null && isOpen(row);
  }

  #lead(fingerprint: string | null, id: string): void {
    if (fingerprint !== null) this.#leaders.set(fingerprint, id);
  }

  /** Checks open requests with their Pool; fails those that it has not known for a while. */
  async #lookAfter(service: string, rows: Row[]): Promise<Presence | null> {
    const presence = await this.#present(
      service,
      rows.map((row) => row.id),
    );
    if (presence === null) return null;
    const now = Date.now();
    for (const { id } of rows) {
      // It may have ended during the call.
      const row = this.#records.get(id);
      const isHere = presence.requests[id] !== undefined || !presence.sure;
      if (isHere || row === null || !isOpen(row)) this.#missed.delete(id);
      else if (now - (this.#missed.get(id) ?? now) < LOST_MS) this.#missed.set(id, this.#missed.get(id) ?? now);
      else this.#note(id, "failed", null, [], "nothing", LOST);
    }
    return presence;
  }

  async #present(service: string, ids: string[]): Promise<Presence | null> {
    try {
      return await withTimeout(this.env.POOL.getByName(service).present(ids));
    } catch (error) {
      // The next check tries again.
      console.warn(JSON.stringify({ event: "pool_unreachable", service, error: String(error) }));
      return null;
    }
  }

  #writeSoon(): void {
    this.#isWritten = false;
    if (this.#writeTimer !== null) return;
    this.#writeTimer = setTimeout(() => {
      this.#writeTimer = null;
      this.#write();
      this.ctx.waitUntil(wakeBy(this.ctx.storage, Date.now() + LOOK_EVERY_MS));
    }, WRITE_SOON_MS);
  }

  /** Resolves when everything so far is committed: at once, or in a shared commit shortly after the previous one. */
  async #written(): Promise<void> {
    const sinceMs = Date.now() - this.#writtenAt;
    if (sinceMs < 0 || sinceMs >= GATHER_MS) return this.#write();
    this.#gathered ??= scheduler.wait(GATHER_MS - sinceMs).then(() => {
      this.#gathered = null;
      this.#write();
    });
    await this.#gathered;
  }

  /** One commit: a record and its usage are never stored separately. */
  #write(): void {
    if (this.#isWritten) return;
    const { storage } = this.ctx;
    storage.transactionSync(() => {
      storage.kv.put("buckets", this.#buckets);
      storage.kv.put("months", this.#months);
      this.#usage.write();
      this.#records.write();
    });
    this.#usage.forget();
    [this.#isWritten, this.#writtenAt] = [true, Date.now()];
  }

  async #removeAll(): Promise<void> {
    await this.ctx.storage.deleteAll();
    this.#stores = null;
  }
}

/** The state of a job is its Job object's to report. */
function isJob({ id }: { id: string }): boolean {
  return id.startsWith("job_");
}

function overQuota(over: Over, bucket: Bucket, limits: TenantLimits, now: number): AdmitReply {
  return { ok: false, ...over, ...leftIn(bucket, limits, now), retryAfterMs: monthEnd(now) - now };
}

function isOpen({ state }: { state: RunState }): boolean {
  return state === "queued" || state === "running";
}

/** The record of a request whose admission was lost in a restart: rate and quota are not charged, but usage counts. */
function reopened(id: string, { admitted }: Spent, now: number): Row | null {
  if (admitted === null || now - admitted.at > RECORD_MS) return null;
  return { id, ...admitted, state: "queued", status: null, results: [], cost: 0, bucket: "", quota: 0 };
}
