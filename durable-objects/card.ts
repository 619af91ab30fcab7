/**
 * The Card: the only one who says yes to a request for its GPU. Keeps the leases (slots.ts) and the health per
 * service (breaker.ts) in its own storage, and tells every Pool that lists it what changed.
 *
 * Kept here: invariants 1, 2, 3 and 8 of DESIGN.md.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import { abandoned, failed, gate, type Health, HEALTHY, succeeded, tried } from "./breaker.ts";
import { CardStore } from "./card-store.ts";
import { countRunning } from "./probe.ts";
import type {
  Attempt,
  CardConfig,
  CardCounters,
  CardReport,
  CardStatus,
  Claimed,
  ClaimNo,
  Ending,
  Gate,
  Heartbeat,
  Held,
  LeaseRights,
  Listing,
  PoolRights,
  ReleaseReply,
  RenewReply,
} from "./protocol.ts";
import { type Lease, Slots } from "./slots.ts";
import { Teller } from "./teller.ts";

/** Pause between two probes of a draining origin. */
const PROBE_EVERY_MS = 1_000;

/** A release waits so long for the next claim, to be written with it: under load every other commit is saved. */
const WRITE_SOON_MS = 20;

interface CardEnv {
  POOL: { getByName(name: string): PoolRights };
  ACCESS_CLIENT_ID?: string;
  ACCESS_CLIENT_SECRET?: string;
}

export class Card extends DurableObject<CardEnv> {
  readonly #store: CardStore;
  readonly #slots: Slots;
  readonly #health: Map<string, Health>;
  readonly #counters: CardCounters;
  readonly #incarnation: number;
  readonly #tellers = new Map<string, Teller>();
  /** Stubs that are out, by lease number: a repeated claim makes another. */
  readonly #lessees = new Map<number, number>();
  #config: CardConfig | null;
  #heartbeat: CardStatus["heartbeat"] = null;
  #seq = 0;
  #alarmAt: number | null = null;
  #probing = false;
  /** Leases that changed since the last write. */
  readonly #unwritten = new Map<number, Lease>();
  #writeTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: CardEnv) {
    super(ctx, env);
    this.#store = new CardStore(ctx.storage);
    this.#incarnation = this.#store.nextIncarnation();
    this.#config = this.#store.config();
    this.#slots = new Slots(this.#store.leases());
    this.#health = this.#store.health();
    this.#counters = this.#store.counters();
    if (this.#slots.held.some((lease) => lease.state === "draining")) ctx.waitUntil(this.#probe());
  }

  /** Takes over a newer configuration; an older or equal one changes nothing. */
  async configure(config: CardConfig): Promise<void> {
    if (this.#config !== null && config.version <= this.#config.version) return;
    const left = (this.#config?.listings ?? []).filter((l) => !config.listings.some((n) => n.service === l.service));
    this.#config = config;
    this.#store.keepConfig(config);
    this.#tell(left.map((listing) => listing.service));
  }

  /** A lease, or no. Called twice with one attempt it is the same lease. */
  async claim(attempt: Attempt): Promise<(Claimed & { lease: Lessee }) | ClaimNo> {
    const now = Date.now();
    this.#reap(now);
    const listing = this.#listing(attempt.service);
    if (this.#config === null || listing === undefined) return this.#no({ no: "unlisted" });
    const held = this.#slots.held.find((lease) => lease.attempt === attempt.attempt);
    const shut = held === undefined ? this.#shut(attempt.service, now) : null;
    if (shut !== null) return this.#no(shut);
    const outcome = this.#slots.claim(attempt, this.#config.slots, listing.drain.maxMs, now);
    if ("no" in outcome) return this.#no(outcome);
    const { lease, fresh, changed } = outcome;
    if (fresh) {
      this.#counters.claims++;
      if (this.#gate(attempt.service, now).state === "half_open") {
        this.#setHealth(attempt.service, tried(this.#healthOf(attempt.service), attempt.attempt));
      }
    }
    this.#keep(changed);
    // A yes must stand before it is said.
    if (changed.length > 0) this.#write();
    const { number, expiresAt } = lease;
    this.#lessees.set(number, (this.#lessees.get(number) ?? 0) + 1);
    const { origin, transport } = listing;
    const lessee = new Lessee({
      renew: () => this.renew(number, attempt.attempt),
      release: (ending) => this.release(number, attempt.attempt, ending),
      vanish: () => this.#vanish(number),
    });
    return { number, expiresAt, origin, transport, lease: lessee };
  }

  async renew(number: number, attempt: string): Promise<RenewReply> {
    const now = Date.now();
    const { reply, changed } = this.#slots.renew(number, attempt, now);
    if (!reply.renewed) this.#counters.stale++;
    this.#keep(changed);
    return reply;
  }

  async release(number: number, attempt: string, ending: Ending): Promise<ReleaseReply> {
    const now = Date.now();
    const lease = this.#slots.held.find((l) => l.number === number && l.attempt === attempt);
    // The first word counts: after an unclean end another may still free the slot, and says no more than that.
    const first = lease !== undefined && (lease.state === "leased" || lease.vanished);
    const { reply, changed } = this.#slots.release(number, attempt, ending, now);
    if (first) this.#counters.released++;
    else if (!reply.released && reply.why === "late") this.#counters.late++;
    else if (!reply.released) this.#counters.stale++;
    if (first) this.#judge(lease.service, attempt, ending, now);
    this.#keep(changed);
    return reply;
  }

  /** What the card's agent says of it. Order is by arrival. */
  async heartbeat(beat: Heartbeat): Promise<void> {
    this.#heartbeat = { ...beat, at: Date.now() };
    if (beat.running !== null) this.#heard(beat.running, null);
  }

  /** How a service reaches this card; null when it is not listed there. */
  async listing(service: string): Promise<Pick<Listing, "origin" | "transport"> | null> {
    const listing = this.#listing(service);
    return listing === undefined ? null : { origin: listing.origin, transport: listing.transport };
  }

  async report(): Promise<CardReport> {
    const now = Date.now();
    this.#reap(now);
    return this.#report(now);
  }

  async status(): Promise<CardStatus> {
    const now = Date.now();
    this.#reap(now);
    const card = this.#config?.card ?? "";
    return {
      report: this.#report(now),
      heartbeat: this.#heartbeat,
      counters: { ...this.#counters },
      leases: this.#slots.held.map((lease) => ({
        ...shown(lease),
        card,
        renewedAt: lease.renewedAt,
        expiresAt: lease.expiresAt,
        drainingSince: lease.drainingSince,
        drainUntil: lease.drainUntil,
      })),
    };
  }

  override async alarm(): Promise<void> {
    this.#alarmAt = null;
    this.#reap(Date.now());
    this.#arm();
  }

  // Private

  #listing(service: string): Listing | undefined {
    return this.#config?.listings.find((listing) => listing.service === service);
  }

  #healthOf(service: string): Health {
    return this.#health.get(service) ?? HEALTHY;
  }

  #gate(service: string, now: number): Gate {
    return gate(this.#healthOf(service), now);
  }

  /** Why this card takes nothing new for the service, or null. */
  #shut(service: string, now: number): ClaimNo | null {
    if (this.#config?.state !== "active") return { no: "withdrawn" };
    const { state, untilAt } = this.#gate(service, now);
    return state === "open" || state === "trial" ? { no: "ejected", untilAt } : null;
  }

  #no(no: ClaimNo): ClaimNo {
    this.#counters.refused++;
    return no;
  }

  #judge(service: string, attempt: string, ending: Ending, now: number): void {
    const before = this.#healthOf(service);
    const limits = this.#listing(service)?.breaker;
    if (ending.health === "ok") this.#setHealth(service, succeeded(before, attempt, now));
    else if (ending.health === "failed" && limits !== undefined)
      this.#setHealth(service, failed(before, limits, attempt, ending.reason ?? "failed", now));
    else this.#setHealth(service, abandoned(before, attempt));
  }

  #setHealth(service: string, health: Health): void {
    if (health === this.#healthOf(service)) return;
    this.#health.set(service, health);
    this.#store.keepHealth(service, health);
  }

  /** The holder's last stub is gone: it went without a word. */
  #vanish(number: number): void {
    const left = (this.#lessees.get(number) ?? 1) - 1;
    if (left > 0) {
      this.#lessees.set(number, left);
      return;
    }
    this.#lessees.delete(number);
    const changed = this.#slots.vanish(number, Date.now());
    for (const lease of changed)
      this.#setHealth(lease.service, abandoned(this.#healthOf(lease.service), lease.attempt));
    this.#keep(changed);
  }

  #reap(now: number): void {
    const { changed, reaped, drained } = this.#slots.reap(now);
    this.#counters.reaped += reaped;
    this.#counters.drained += drained;
    for (const lease of changed) {
      if (lease.state !== "leased")
        this.#setHealth(lease.service, abandoned(this.#healthOf(lease.service), lease.attempt));
    }
    this.#keep(changed);
  }

  #heard(running: number, service: string | null): void {
    const changed = this.#slots.hear(running, service);
    this.#counters.drained += changed.filter((lease) => lease.state === "ended").length;
    this.#keep(changed);
  }

  /** Tells the pools of changed leases and stores them soon: what a crash forgets of an end costs a slot some time. */
  #keep(changed: Lease[]): void {
    if (changed.length === 0) return;
    for (const lease of changed) this.#unwritten.set(lease.number, lease);
    this.#writeTimer ??= setTimeout(() => this.#write(), WRITE_SOON_MS);
    this.#tell([]);
    if (changed.some((lease) => lease.state === "draining")) this.ctx.waitUntil(this.#probe());
  }

  /** Stores what changed since the last time, in one commit, and sees to the alarm. */
  #write(): void {
    if (this.#writeTimer !== null) clearTimeout(this.#writeTimer);
    this.#writeTimer = null;
    this.#store.keepLeases([...this.#unwritten.values()], this.#slots.forget(), this.#counters);
    this.#unwritten.clear();
    this.#arm();
  }

  #arm(): void {
    const next = this.#slots.nextAt();
    if (next === null || (this.#alarmAt !== null && this.#alarmAt <= next)) return;
    this.#alarmAt = next;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(next));
  }

  #report(now: number): CardReport {
    const config = this.#config;
    return {
      card: config?.card ?? "",
      incarnation: this.#incarnation,
      seq: ++this.#seq,
      version: config?.version ?? 0,
      slots: config?.slots ?? 0,
      state: config?.state ?? "disabled",
      lastNumber: this.#slots.lastNumber,
      held: this.#slots.held.map(shown),
      gates: Object.fromEntries((config?.listings ?? []).map(({ service }) => [service, this.#gate(service, now)])),
    };
  }

  /** Tells every pool that lists this card, and those that did until now. */
  #tell(alsoServices: string[]): void {
    const services = [...(this.#config?.listings ?? []).map((listing) => listing.service), ...alsoServices];
    for (const service of services) {
      let teller = this.#tellers.get(service);
      if (teller === undefined) {
        teller = new Teller(() => this.env.POOL.getByName(service).report(this.#report(Date.now())));
        this.#tellers.set(service, teller);
      }
      this.ctx.waitUntil(teller.tell());
    }
  }

  /** While slots drain whose service has a probe, asks the origin how many requests it runs. */
  async #probe(): Promise<void> {
    if (this.#probing) return;
    this.#probing = true;
    try {
      // Ends by itself: every draining slot ends after its service's drain.max_s at the latest.
      for (;;) {
        const services = new Set(this.#slots.held.filter((l) => l.state === "draining").map((l) => l.service));
        const listings = [...services]
          .map((s) => this.#listing(s))
          .filter((l) => l !== undefined && l.drain.probe !== null);
        if (listings.length === 0) return;
        await scheduler.wait(PROBE_EVERY_MS);
        for (const listing of listings as Listing[]) {
          const running = await countRunning(listing, this.env);
          if (running !== null) this.#heard(running, listing.service);
        }
        this.#reap(Date.now());
      }
    } finally {
      this.#probing = false;
    }
  }
}

/** What others see of a held slot. */
function shown({ number, attempt, request, tenant, service, fingerprint, state, claimedAt }: Lease): Held {
  const seen = state === "draining" ? "draining" : "leased";
  return { number, attempt, request, tenant, service, fingerprint, state: seen, claimedAt };
}

/** The holder's end of a lease: a hint when it is disposed, a word when it is released. */
class Lessee extends RpcTarget implements LeaseRights {
  readonly #rights: LeaseRights & { vanish(): void };

  constructor(rights: LeaseRights & { vanish(): void }) {
    super();
    this.#rights = rights;
  }

  renew(): Promise<RenewReply> {
    return this.#rights.renew();
  }

  release(ending: Ending): Promise<ReleaseReply> {
    return this.#rights.release(ending);
  }

  [Symbol.dispose](): void {
    this.#rights.vanish();
  }
}
