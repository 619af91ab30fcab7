/**
 * The Card: the only authority that grants slots of its GPU. CardBook (card-book.ts) makes the decisions; this class
 * stores them and reports them to every Pool that lists the card.
 *
 * Enforces invariants 1, 2, 3 and 8 of DESIGN.md.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeBy } from "./alarm.ts";
import { CardBook, shown } from "./card-book.ts";
import { CardStore } from "./card-store.ts";
import { LeaseStub } from "./lease-stub.ts";
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
import type { PoolRpc } from "./pool-protocol.ts";
import type { Lease } from "./slots.ts";
import { Notifier } from "./notifier.ts";

/** How long a release waits to share the next claim's commit. Under load this saves every other commit. */
const WRITE_SOON_MS = 20;

interface CardEnv {
  POOL: { getByName(name: string): PoolRpc };
  ACCESS_CLIENT_ID?: string;
  ACCESS_CLIENT_SECRET?: string;
}

export class Card extends DurableObject<CardEnv> {
  readonly #store: CardStore;
  readonly #book: CardBook;
  readonly #incarnation: number;
  readonly #prober: Prober;
  readonly #notifiers = new Map<string, Notifier>();
  /** Live stubs per lease number; a repeated claim creates another. */
  readonly #stubs = new Map<number, number>();
  #heartbeat: CardStatus["heartbeat"] = null;
  #seq = 0;
  /** Leases changed since the last write. */
  readonly #unwritten = new Map<number, Lease>();
  #writeTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(ctx: DurableObjectState, env: CardEnv) {
    super(ctx, env);
    this.#store = new CardStore(ctx.storage);
    this.#incarnation = this.#store.nextIncarnation();
    this.#book = new CardBook(this.#store.config(), this.#store.leases(), this.#store.counters(), this.#store);
    const { ACCESS_CLIENT_ID: id, ACCESS_CLIENT_SECRET: secret } = env;
    this.#prober = new Prober(
      id && secret ? { id, secret } : null,
      () => this.#drainingListings(),
      (running, service) => this.#heard(running, service),
    );
    ctx.waitUntil(this.#prober.run());
  }

  /** Applies a newer configuration; ignores an older or equal one. */
  async configure(config: CardConfig): Promise<void> {
    const before = this.#book.config;
    if (before !== null && config.version <= before.version) return;
    const left = (before?.listings ?? []).filter((l) => !config.listings.some((n) => n.service === l.service));
    this.#book.config = config;
    this.#store.keepConfig(config);
    this.#tell(left.map((listing) => listing.service));
  }

  /** Grants or refuses a lease. Repeating an attempt returns the same lease. */
  async claim(attempt: Attempt): Promise<(Claimed & { lease: LeaseStub }) | ClaimNo> {
    const now = Date.now();
    this.#reap(now);
    const outcome = this.#book.claim(attempt, now);
    if ("no" in outcome) return outcome;
    const { lease, listing, changed } = outcome;
    this.#keep(changed);
    // A grant must be stored before it is returned.
    if (changed.length > 0) this.#write();
    const { origin, transport } = listing;
    return { number: lease.number, expiresAt: lease.expiresAt, origin, transport, lease: this.#stub(lease) };
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

  /** Ends an attempt whose claim reply was lost and whose holder gave it up before sending anything. */
  async unclaim(attempt: string): Promise<void> {
    this.#keep(this.#book.unclaim(attempt));
  }

  /** A heartbeat of the card's agent. Order is by arrival. */
  async heartbeat(beat: Heartbeat): Promise<void> {
    this.#heartbeat = { ...beat, at: Date.now() };
    if (beat.running !== null) this.#heard(beat.running, null);
  }

  /** How a service reaches this card; null if it is not listed there. */
  async listing(service: string): Promise<Pick<Listing, "origin" | "transport"> | null> {
    const listing = this.#book.listing(service);
    return listing === undefined ? null : { origin: listing.origin, transport: listing.transport };
  }

  async report(listener?: string): Promise<CardReport> {
    const now = Date.now();
    this.#reap(now);
    if (listener !== undefined && this.#book.listing(listener) !== undefined) this.#notifier(listener).listen();
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

  #stub({ number, attempt }: Lease): LeaseStub {
    this.#stubs.set(number, (this.#stubs.get(number) ?? 0) + 1);
    return new LeaseStub({
      renew: () => this.renew(number, attempt),
      release: (ending) => this.release(number, attempt, ending),
      vanish: () => this.#vanish(number),
    });
  }

  /** Called when a stub is disposed. Disposing the last one without a release means that the holder vanished. */
  #vanish(number: number): void {
    const left = (this.#stubs.get(number) ?? 1) - 1;
    if (left > 0) {
      this.#stubs.set(number, left);
      return;
    }
    this.#stubs.delete(number);
    this.#keep(this.#book.vanish(number, Date.now()));
  }

  #reap(now: number): void {
    this.#keep(this.#book.reap(now));
  }

  #heard(running: number, service: string | null): void {
    this.#keep(this.#book.applyReport(running, service));
  }

  #drainingListings(): Listing[] {
    this.#reap(Date.now());
    return this.#book.draining();
  }

  /** Reports changed leases to the Pools and stores them soon. A crash that loses an end only delays a slot. */
  #keep(changed: Lease[]): void {
    if (changed.length === 0) return;
    for (const lease of changed) this.#unwritten.set(lease.number, lease);
    this.#writeTimer ??= setTimeout(() => this.#write(), WRITE_SOON_MS);
    this.#tellOf(changed);
    if (changed.some((lease) => lease.state === "draining")) this.ctx.waitUntil(this.#prober.run());
  }

  /** Stores all pending changes in one commit and sets the alarm. */
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

  /** Reports to every Pool that lists this card, and to those that listed it until now. */
  #tell(alsoServices: string[]): void {
    const services = [...(this.#book.config?.listings ?? []).map((listing) => listing.service), ...alsoServices];
    for (const service of services) this.ctx.waitUntil(this.#notifier(service).tell("now"));
  }

  /**
   * A Pool is told at once when a slot of its service ends or drains. A claim can wait, because its holder tells the
   * Pool. The other Pools are told as eagerly as they asked for.
   */
  #tellOf(changed: Lease[]): void {
    const claimed = new Set(changed.filter((lease) => lease.state === "leased").map((lease) => lease.service));
    const ended = new Set(changed.filter((lease) => lease.state !== "leased").map((lease) => lease.service));
    for (const { service } of this.#book.config?.listings ?? []) {
      const how = ended.has(service) ? "now" : claimed.has(service) ? "later" : "as wanted";
      this.ctx.waitUntil(this.#notifier(service).tell(how));
    }
  }

  #notifier(service: string): Notifier {
    const known = this.#notifiers.get(service);
    if (known !== undefined) return known;
    const notifier = new Notifier(() => this.env.POOL.getByName(service).report(this.#report(Date.now())));
    this.#notifiers.set(service, notifier);
    return notifier;
  }
}
