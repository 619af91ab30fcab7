/**
 * The Tenant: exact request rate and quota across the world, what was used, and for a day what became of each request
 * that took a ticket. What a request does until it has ended is asked of its Pool; one that its Pool does not know any
 * more was lost with whoever ran it, and has failed.
 *
 * Kept here: invariants 8 and 9 of DESIGN.md: an admission repeated with the same id takes one token, and a refused
 * or lost request gets it back. An end is written with what it adds to the usage, before it is heard: so whatever
 * restarts or is repeated, a request counts once.
 */
import { DurableObject } from "cloudflare:workers";
import { LRUCache } from "lru-cache";
import { wakeBy } from "./alarm.ts";
import { answered } from "./answer-protocol.ts";
import type { Presence, PresenceRights } from "./pool-protocol.ts";
import {
  type Admission,
  type AdmitReply,
  type Charge,
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
import { dayOf, NO_USE, useOf } from "./usage.ts";
import { UsageStore } from "./usage-store.ts";

/** Admissions of so long a time are written in one commit; a crash forgets at most that much. */
const WRITE_SOON_MS = 100;
/** What is heard when it is written shares a commit with others within this time. */
const GATHER_MS = 5;
/** Old records go at most this often. */
const SWEEP_EVERY_MS = 3_600_000;
const SWEEP_ON_MS = 1_000;
/** Requests that have been under way for so long are looked after, this often. */
const LOOK_EVERY_MS = 60_000;
/** A request that its Pool has not known for so long is lost: its end would have been told by now. */
const LOST_MS = 30_000;
/** What is known of what a lost request took. */
const LOST: Spent = { ...NOTHING_SPENT, reason: "internal" };
/** Runs that are remembered by their fingerprint. */
const LEADERS_MAX = 10_000;

interface TenantEnv {
  POOL: { getByName(name: string): PresenceRights };
}

export class Tenant extends DurableObject<TenantEnv> {
  /** Made when they are needed: of a deleted tenant nothing is stored in the end, not even empty tables. */
  #stores: { records: Records; usage: UsageStore } | null = null;
  /** The tenant's own (empty name), and one for each service that ever had a rate of its own here. */
  #buckets: Map<string, Bucket>;
  #months: Months;
  /** Who was charged last for a run, by its fingerprint; whom a restart forgot, or many others, nobody follows here. */
  readonly #leaders = new LRUCache<string, string>({ max: LEADERS_MAX });
  /** When the tenant was deleted: what is told of it after that is not kept. */
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
   * One token and the counts' place in the quota, or neither. Who asks for what is under way already takes no quota: it
   * pays if it has to run by itself. The record of a request that passed stands as `queued`.
   */
  async admit(admission: Admission, limits: TenantLimits): Promise<AdmitReply> {
    const { id, clientId, requestId = null, service, key, fingerprint, hits } = admission;
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
    this.#records.put({ id, clientId, requestId, service, key, ...fresh, ...charged });
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
      if ("over" in months)
        return { ...overQuota(months, bucket, limits, now), follows: this.#isUnderWay(fingerprint, id) };
      this.#months = months;
      this.#lead(fingerprint, id);
      this.#records.put({ ...row, quota: results, costMilli });
      this.#writeSoon();
    }
    return { ok: true, ...leftIn(bucket, limits, now) };
  }

  /** The price of a hit, where hits have one, and no token; the request is over with these results. */
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

  /** One token, and the place in the quota of all their results, or nothing. */
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
   * A later state of an admitted request; what has ended stays ended. What it does not cost is given back, once, and
   * what it took is counted, once. Ends when that is written.
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

  /** Usage that was counted elsewhere, under an id of its own: said again it counts no more. Ends when it is written. */
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

  /** Removes everything, in one step however much it is; what still runs is not recorded any more. */
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

  /** By our id, else by the caller's own: the latest of that name. */
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
    // Out of its Pool's hands and not ended: how it ended is on its way.
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
    // What was found lost is written before the old goes: it may be old itself.
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
    // What was forgotten was never taken either.
    if (known !== null) this.#months = restore(this.#months, unmade, monthOf(row.at));
    this.#records.put({ ...row, state, status, results, cost, quota, costMilli });
    if (!isOpen({ state })) this.#usage.add({ ...row, day: dayOf(row.at) }, useOf(spent, row.quota, costMilli));
    this.#writeSoon();
  }

  /** Whether another request for the same has not ended yet, as far as this object remembers. */
  #isUnderWay(fingerprint: string | null, id: string): boolean {
    const leader = fingerprint === null ? undefined : this.#leaders.get(fingerprint);
    const row = leader === undefined || leader === id ? null : this.#records.get(leader);
    return row !== null && isOpen(row);
  }

  #lead(fingerprint: string | null, id: string): void {
    if (fingerprint !== null) this.#leaders.set(fingerprint, id);
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
      else this.#note(id, "failed", null, [], "nothing", LOST);
    }
    return presence;
  }

  async #present(service: string, ids: string[]): Promise<Presence | null> {
    try {
      return await answered(this.env.POOL.getByName(service).present(ids));
    } catch (error) {
      // Asked again at the next look.
      console.warn(JSON.stringify({ event: "pool_silent", service, error: String(error) }));
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

  /** Ends when what was told until now is written: at once, or with what else comes shortly after the last write. */
  async #written(): Promise<void> {
    const sinceMs = Date.now() - this.#writtenAt;
    if (sinceMs < 0 || sinceMs >= GATHER_MS) return this.#write();
    this.#gathered ??= scheduler.wait(GATHER_MS - sinceMs).then(() => {
      this.#gathered = null;
      this.#write();
    });
    await this.#gathered;
  }

  /** One commit: a record never stands without what it adds to the usage. */
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

/** What a job does is its Job's to say. */
function isJob({ id }: { id: string }): boolean {
  return id.startsWith("job_");
}

function overQuota(over: Over, bucket: Bucket, limits: TenantLimits, now: number): AdmitReply {
  return { ok: false, ...over, ...leftIn(bucket, limits, now), retryAfterMs: monthEnd(now) - now };
}

function isOpen({ state }: { state: RunState }): boolean {
  return state === "queued" || state === "running";
}

/** An admission that this object forgot by a restart right after it: it is charged nothing, but what it ran counts. */
function reopened(id: string, { admitted }: Spent, now: number): Row | null {
  if (admitted === null || now - admitted.at > RECORD_MS) return null;
  return { id, ...admitted, state: "queued", status: null, results: [], cost: 0, bucket: "", quota: 0 };
}
