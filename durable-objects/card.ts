/**
 * The Card: the only one who says yes to a request for its GPU. Keeps the leases (slots.ts), its health per service
 * (card-health.ts) and its counters in its own storage, and tells every Pool that lists it what changed.
 *
 * Kept here: invariants 1, 2, 3 and 8 of DESIGN.md.
 */
import { DurableObject } from "cloudflare:workers";
import { CardHealth } from "./card-health.ts";
import { CardStore } from "./card-store.ts";
import { Lessee } from "./lessee.ts";
import { Prober } from "./probe.ts";
import type {
  Attempt,
  CardConfig,
  CardCounters,
  CardReport,
  CardStatus,
  Claimed,
  ClaimNo,
  Ending,
  Heartbeat,
  Held,
  Listing,
  PoolRights,
  ReleaseReply,
  RenewReply,
} from "./protocol.ts";
import { type Lease, Slots } from "./slots.ts";
import { Teller } from "./teller.ts";

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
  readonly #health: CardHealth;
  readonly #counters: CardCounters;
  readonly #incarnation: number;
  readonly #prober: Prober;
  readonly #tellers = new Map<string, Teller>();
  /** Stubs that are out, by lease number: a repeated claim makes another. */
  readonly #lessees = new Map<number, number>();
  #config: CardConfig | null;
  #heartbeat: CardStatus["heartbeat"] = null;
  #seq = 0;
  #alarmAt: number | null = null;
  /** Leases that changed since the last write. */
  readonly #unwritten = new Map<number, Lease>();
  #writeTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: CardEnv) {
    super(ctx, env);
    this.#store = new CardStore(ctx.storage);
    this.#incarnation = this.#store.nextIncarnation();
    this.#config = this.#store.config();
    this.#slots = new Slots(this.#store.leases());
    this.#health = new CardHealth(this.#store, (service) => this.#listing(service)?.breaker);
    this.#counters = this.#store.counters();
    this.#prober = new Prober(
      env,
      () => this.#drainingListings(),
      (running, service) => this.#heard(running, service),
    );
    ctx.waitUntil(this.#prober.run());
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
    const held = this.#ofAttempt(attempt.attempt);
    const no = held === undefined ? this.#shut(attempt, now) : null;
    if (no !== null) return this.#no(no);
    const wasVanished = held?.vanished === true;
    const outcome = this.#slots.claim(attempt, this.#config.slots, listing.drain.maxMs, now);
    if ("no" in outcome) return this.#no(outcome);
    const { lease, fresh, changed } = outcome;
    if (fresh) {
      this.#counters.claims++;
      this.#health.begun(attempt, now);
    } else if (wasVanished) this.#counters.orphaned--;
    this.#keep(changed);
    // A yes must stand before it is said.
    if (changed.length > 0) this.#write();
    const { origin, transport } = listing;
    return { number: lease.number, expiresAt: lease.expiresAt, origin, transport, lease: this.#lessee(lease) };
  }

  async renew(number: number, attempt: string): Promise<RenewReply> {
    const wasVanished = this.#ofAttempt(attempt)?.vanished === true;
    const { reply, changed } = this.#slots.renew(number, attempt, Date.now());
    if (!reply.renewed) this.#counters.stale++;
    else if (wasVanished) this.#counters.orphaned--;
    this.#keep(changed);
    return reply;
  }

  async release(number: number, attempt: string, ending: Ending): Promise<ReleaseReply> {
    const now = Date.now();
    const lease = this.#slots.held.find((l) => l.number === number && l.attempt === attempt);
    // The first word counts: after an unclean end another may still free the slot, and says no more than that.
    const isFirst = lease !== undefined && (lease.state === "leased" || lease.vanished);
    const wasVanished = lease?.vanished === true;
    const { reply, changed } = this.#slots.release(number, attempt, ending, now);
    if (isFirst) {
      this.#counters[ending.health === "ok" ? "done" : "failed"]++;
      if (wasVanished) this.#counters.orphaned--;
      this.#health.judge(lease.service, attempt, ending, now);
    } else if (!reply.released) this.#counters[reply.why === "late" ? "late" : "stale"]++;
    this.#keep(changed);
    return reply;
  }

  /** The reply to this attempt's claim was lost, and its holder gave it up before anything was sent. */
  async unclaim(attempt: string): Promise<void> {
    const before = this.#ofAttempt(attempt);
    const wasVanished = before?.vanished === true;
    const changed = this.#slots.unclaim(attempt);
    if (before !== undefined) {
      this.#counters.failed++;
      if (wasVanished) this.#counters.orphaned--;
      this.#health.abandoned(before);
    }
    this.#keep(changed);
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

  async report(listener?: string): Promise<CardReport> {
    const now = Date.now();
    this.#reap(now);
    if (listener !== undefined && this.#listing(listener) !== undefined) this.#teller(listener).listen();
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

  #ofAttempt(attempt: string): Lease | undefined {
    return this.#slots.held.find((lease) => lease.attempt === attempt);
  }

  /** Why this card takes nothing new for the service, or null. */
  #shut(attempt: Attempt, now: number): ClaimNo | null {
    if (this.#config?.state !== "active") return { no: "withdrawn" };
    const running = this.#slots.held.filter((l) => l.service === attempt.service && l.state === "leased").length;
    return this.#health.shut(attempt, running, now);
  }

  #no(no: ClaimNo): ClaimNo {
    this.#counters.refused++;
    return no;
  }

  #lessee({ number, attempt }: Lease): Lessee {
    this.#lessees.set(number, (this.#lessees.get(number) ?? 0) + 1);
    return new Lessee({
      renew: () => this.renew(number, attempt),
      release: (ending) => this.release(number, attempt, ending),
      vanish: () => this.#vanish(number),
    });
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
    this.#counters.orphaned += changed.length;
    for (const lease of changed) this.#health.abandoned(lease);
    this.#keep(changed);
  }

  #reap(now: number): void {
    const { changed, reaped, drained } = this.#slots.reap(now);
    this.#counters.reaped += reaped;
    this.#counters.orphaned += reaped;
    this.#counters.drained += drained;
    for (const lease of changed) if (lease.state !== "leased") this.#health.abandoned(lease);
    this.#keep(changed);
  }

  #heard(running: number, service: string | null): void {
    const changed = this.#slots.hear(running, service);
    this.#counters.drained += changed.filter((lease) => lease.state === "ended").length;
    this.#keep(changed);
  }

  #drainingListings(): Listing[] {
    this.#reap(Date.now());
    const services = new Set(this.#slots.held.filter((l) => l.state === "draining").map((l) => l.service));
    return (this.#config?.listings ?? []).filter((listing) => services.has(listing.service));
  }

  /** Tells the pools of changed leases and stores them soon: what a crash forgets of an end costs a slot some time. */
  #keep(changed: Lease[]): void {
    if (changed.length === 0) return;
    for (const lease of changed) this.#unwritten.set(lease.number, lease);
    this.#writeTimer ??= setTimeout(() => this.#write(), WRITE_SOON_MS);
    this.#tellOf(changed);
    if (changed.some((lease) => lease.state === "draining")) this.ctx.waitUntil(this.#prober.run());
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
    const services = (config?.listings ?? []).map((listing) => listing.service);
    return {
      card: config?.card ?? "",
      incarnation: this.#incarnation,
      seq: ++this.#seq,
      version: config?.version ?? 0,
      slots: config?.slots ?? 0,
      state: config?.state ?? "disabled",
      lastNumber: this.#slots.lastNumber,
      held: this.#slots.held.map(shown),
      gates: Object.fromEntries(services.map((service) => [service, this.#health.gate(service, now)])),
    };
  }

  /** Tells every pool that lists this card, and those that did until now. */
  #tell(alsoServices: string[]): void {
    const services = [...(this.#config?.listings ?? []).map((listing) => listing.service), ...alsoServices];
    for (const service of services) this.ctx.waitUntil(this.#teller(service).tell("now"));
  }

  /** A slot's own Pool hears at once that it is free, and from its holder that it was claimed; others as they want. */
  #tellOf(changed: Lease[]): void {
    const claimed = new Set(changed.filter((lease) => lease.state === "leased").map((lease) => lease.service));
    const ended = new Set(changed.filter((lease) => lease.state !== "leased").map((lease) => lease.service));
    for (const { service } of this.#config?.listings ?? []) {
      const how = ended.has(service) ? "now" : claimed.has(service) ? "later" : "as wanted";
      this.ctx.waitUntil(this.#teller(service).tell(how));
    }
  }

  #teller(service: string): Teller {
    const known = this.#tellers.get(service);
    if (known !== undefined) return known;
    const teller = new Teller(() => this.env.POOL.getByName(service).report(this.#report(Date.now())));
    this.#tellers.set(service, teller);
    return teller;
  }
}

/** What others see of a held slot. */
function shown({ number, attempt, request, tenant, service, fingerprint, state, claimedAt }: Lease): Held {
  const seen = state === "draining" ? "draining" : "leased";
  return { number, attempt, request, tenant, service, fingerprint, state: seen, claimedAt };
}
