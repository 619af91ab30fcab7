/**
 * The Card: the only one who says yes to a request for its GPU. What it decides stands in its book (card-book.ts); here
 * is how that is stored, and told to every Pool that lists it.
 *
 * Kept here: invariants 1, 2, 3 and 8 of DESIGN.md.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeBy } from "./alarm.ts";
import { CardBook, shown } from "./card-book.ts";
import { CardStore } from "./card-store.ts";
import { Lessee } from "./lessee.ts";
import { Prober } from "./probe.ts";
import type {
  Attempt,
  CardConfig,
  CardReport,
  CardStatus,
  Claimed,
  ClaimNo,
  Ending,
  Heartbeat,
  Listing,
  ReleaseReply,
  RenewReply,
} from "./card-protocol.ts";
import type { PoolRights } from "./pool-protocol.ts";
import type { Lease } from "./slots.ts";
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
  readonly #book: CardBook;
  readonly #incarnation: number;
  readonly #prober: Prober;
  readonly #tellers = new Map<string, Teller>();
  /** Stubs that are out, by lease number: a repeated claim makes another. */
  readonly #lessees = new Map<number, number>();
  #heartbeat: CardStatus["heartbeat"] = null;
  #seq = 0;
  /** Leases that changed since the last write. */
  readonly #unwritten = new Map<number, Lease>();
  #writeTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: CardEnv) {
    super(ctx, env);
    this.#store = new CardStore(ctx.storage);
    this.#incarnation = this.#store.nextIncarnation();
    this.#book = new CardBook(this.#store.config(), this.#store.leases(), this.#store.counters(), this.#store);
    this.#prober = new Prober(
      env,
      () => this.#drainingListings(),
      (running, service) => this.#heard(running, service),
    );
    ctx.waitUntil(this.#prober.run());
  }

  /** Takes over a newer configuration; an older or equal one changes nothing. */
  async configure(config: CardConfig): Promise<void> {
    const before = this.#book.config;
    if (before !== null && config.version <= before.version) return;
    const left = (before?.listings ?? []).filter((l) => !config.listings.some((n) => n.service === l.service));
    this.#book.config = config;
    this.#store.keepConfig(config);
    this.#tell(left.map((listing) => listing.service));
  }

  /** A lease, or no. Called twice with one attempt it is the same lease. */
  async claim(attempt: Attempt): Promise<(Claimed & { lease: Lessee }) | ClaimNo> {
    const now = Date.now();
    this.#reap(now);
    const outcome = this.#book.claim(attempt, now);
    if ("no" in outcome) return outcome;
    const { lease, listing, changed } = outcome;
    this.#keep(changed);
    // A yes must stand before it is said.
    if (changed.length > 0) this.#write();
    const { origin, transport } = listing;
    return { number: lease.number, expiresAt: lease.expiresAt, origin, transport, lease: this.#lessee(lease) };
  }

  async renew(number: number, attempt: string): Promise<RenewReply> {
    const { reply, changed } = this.#book.renew(number, attempt, Date.now());
    this.#keep(changed);
    return reply;
  }

  async release(number: number, attempt: string, ending: Ending): Promise<ReleaseReply> {
    const { reply, changed } = this.#book.release(number, attempt, ending, Date.now());
    this.#keep(changed);
    return reply;
  }

  /** The reply to this attempt's claim was lost, and its holder gave it up before anything was sent. */
  async unclaim(attempt: string): Promise<void> {
    this.#keep(this.#book.unclaim(attempt));
  }

  /** What the card's agent says of it. Order is by arrival. */
  async heartbeat(beat: Heartbeat): Promise<void> {
    this.#heartbeat = { ...beat, at: Date.now() };
    if (beat.running !== null) this.#heard(beat.running, null);
  }

  /** How a service reaches this card; null when it is not listed there. */
  async listing(service: string): Promise<Pick<Listing, "origin" | "transport"> | null> {
    const listing = this.#book.listing(service);
    return listing === undefined ? null : { origin: listing.origin, transport: listing.transport };
  }

  async report(listener?: string): Promise<CardReport> {
    const now = Date.now();
    this.#reap(now);
    if (listener !== undefined && this.#book.listing(listener) !== undefined) this.#teller(listener).listen();
    return this.#report(now);
  }

  async status(): Promise<CardStatus> {
    const now = Date.now();
    this.#reap(now);
    const card = this.#book.config?.card ?? "";
    return {
      report: this.#report(now),
      heartbeat: this.#heartbeat,
      counters: { ...this.#book.counters },
      leases: this.#book.leases.map((lease) => ({
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
    this.#reap(Date.now());
    this.#arm();
  }

  // Private

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
    this.#keep(this.#book.vanish(number, Date.now()));
  }

  #reap(now: number): void {
    this.#keep(this.#book.reap(now));
  }

  #heard(running: number, service: string | null): void {
    this.#keep(this.#book.heard(running, service));
  }

  #drainingListings(): Listing[] {
    this.#reap(Date.now());
    return this.#book.draining();
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
    this.#store.keepLeases([...this.#unwritten.values()], this.#book.forget(), this.#book.counters);
    this.#unwritten.clear();
    this.#arm();
  }

  #arm(): void {
    const next = this.#book.nextAt();
    if (next !== null) this.ctx.waitUntil(wakeBy(this.ctx.storage, next));
  }

  #report(now: number): CardReport {
    return this.#book.report(this.#incarnation, ++this.#seq, now);
  }

  /** Tells every pool that lists this card, and those that did until now. */
  #tell(alsoServices: string[]): void {
    const services = [...(this.#book.config?.listings ?? []).map((listing) => listing.service), ...alsoServices];
    for (const service of services) this.ctx.waitUntil(this.#teller(service).tell("now"));
  }

  /** A slot's own Pool hears at once that it is free, and from its holder that it was claimed; others as they want. */
  #tellOf(changed: Lease[]): void {
    const claimed = new Set(changed.filter((lease) => lease.state === "leased").map((lease) => lease.service));
    const ended = new Set(changed.filter((lease) => lease.state !== "leased").map((lease) => lease.service));
    for (const { service } of this.#book.config?.listings ?? []) {
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
