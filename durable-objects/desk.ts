/**
 * The Desk: the life cycle of a Pool's tickets. The outside world (clock, requests to cards, records) is injected.
 *
 * Phases of a ticket:
 *   waiting    in the queue (waiting-room.ts), or following another request for the same result (shared-runs.ts)
 *   offered    a card is reserved for it for OFFER_MS, and counted as pending (choose-card.ts)
 *   missed     it did not claim in time, and is out of the queue until its holder calls again
 *   running    its holder reported that the Card granted the claim
 *   over       told the outcome of another run, refused, finished, or left
 *
 * Enforces invariants 4, 5, 6 and 8 of DESIGN.md.
 */
import { Addresses } from "./addresses.ts";
import * as admission from "./admission.ts";
import { type Budget, earn, newBudget, spend } from "./budget.ts";
import { Cards } from "./choose-card.ts";
import type { Clock } from "./clock.ts";
import { known, learn, startMs, type Times } from "./estimate.ts";
import { Coalescer } from "./coalescer.ts";
import { ReportPoller } from "./report-poller.ts";
import type { CardReport, ClaimNo } from "./card-protocol.ts";
import type {
  Entry,
  Finish,
  Observed,
  OfferReply,
  Outlook,
  PoolConfig,
  PoolRefusal,
  WaitingOn,
} from "./pool-protocol.ts";
import { cancelTimeout, setReply, type TicketState } from "./ticket-state.ts";
import { WaitingRoom } from "./waiting-room.ts";
import { reasonToWait, type Waiting } from "./waiting-on.ts";

/** An offer that is not claimed within this time goes to the next ticket. */
const OFFER_MS = 5_000;
/** A Worker whose connection to the Pool broke re-enters within this time, if its caller is still connected. */
const RETURN_MS = 1_000;
/** Minimum interval between attempts to repair the effects of a lost message that keeps new requests out. */
const MEND_EVERY_MS = 5_000;

/** What a desk asks its Pool to do. */
export interface DeskEffects {
  /** Requests reports from these cards. */
  ask(cards: string[]): void;
  /** Called when a caller left before its run began. */
  departed(entry: Entry): void;
  /** Called when the learned run times have changed. */
  learned(times: Times): void;
}

export class Desk {
  readonly #clock: Clock;
  readonly #effects: DeskEffects;
  readonly #room = new WaitingRoom();
  readonly #tickets = new Map<string, TicketState>();
  /** The latest ticket of each request. */
  readonly #requests = new Map<string, TicketState>();
  readonly #coalescer: Coalescer;
  readonly #addresses = new Addresses();
  /** Requests whose ticket was just disposed, with a function that cancels the report of the departure. */
  readonly #departing = new Map<string, () => void>();
  readonly refused: Record<string, number> = {};
  admitted = 0;
  cards = new Cards("", this.#addresses);
  times: Times | null;
  #config: PoolConfig | null = null;
  #budget: Budget;
  #isPumping = false;
  #toldBehindAt = 0;
  #askedAt = 0;
  readonly #poller: ReportPoller;

  constructor(clock: Clock, effects: DeskEffects, times: Times | null) {
    this.#clock = clock;
    this.#effects = effects;
    this.times = times;
    this.#budget = newBudget(clock.now());
    const someoneWaits = (): boolean => this.queued > 0;
    this.#coalescer = new Coalescer(clock, {
      enter: ({ entry }) => this.#enterRoom(entry),
      leave: ({ entry }) => this.#room.leave(entry.attempt),
      settle: (ticket, finish) => this.#settle(ticket, { kind: "told", finish }),
      pump: () => this.pump(),
    });
    this.#poller = new ReportPoller(clock, someoneWaits, () => {
      effects.ask(this.#poller.some(this.cards.names()));
      this.pump();
    });
  }

  configure(config: PoolConfig): void {
    if (this.#config?.service !== config.service || this.cards.names().length === 0)
      this.cards = new Cards(config.service, this.#addresses);
    this.#config = config;
    const before = this.cards.reports();
    this.cards.configure(config.cards, this.#clock.now());
    // A removed card's reports are ignored from now on, so its runs are treated as ended.
    const removed = before.filter(({ card }) => this.cards.reportOf(card) === null);
    for (const { attempt } of removed.flatMap(({ held }) => held)) this.#coalescer.slotFreed(attempt);
    // A card that left the pool no longer counts against a tenant's cap.
    for (const tenant of new Set(this.#room.entries().map((entry) => entry.tenant))) this.#recap(tenant);
    this.pump();
  }

  /** Returns a ticket. Idempotent by attempt id. */
  enter(entry: Entry): TicketState {
    const before = this.#tickets.get(entry.attempt);
    if (before !== undefined) return before;
    const ticket: TicketState = {
      entry,
      reply: null,
      waiters: new Set(),
      phase: "waiting",
      card: null,
      waitsSince: this.#clock.now(),
      stop: null,
      holders: 0,
    };
    this.#tickets.set(entry.attempt, ticket);
    this.#requests.set(entry.request, ticket);
    this.#departing.get(entry.request)?.();
    this.#departing.delete(entry.request);
    this.#addresses.add(entry);
    this.#admit(ticket);
    return ticket;
  }

  /** Applies a Card's report of its slots. */
  report(report: CardReport): void {
    const before = this.cards.reportOf(report.card)?.held ?? [];
    if (!this.cards.report(report, this.#clock.now())) return;
    const runs = new Set(report.held.filter((held) => held.state === "leased").map((held) => held.attempt));
    for (const { attempt } of before) if (!runs.has(attempt)) this.#coalescer.slotFreed(attempt);
    this.pump();
  }

  /** Whether anybody is waiting or was a moment ago. */
  get attentive(): boolean {
    return this.#poller.attentive;
  }

  get queued(): number {
    return this.#room.length + this.#coalescer.count;
  }

  get oldestAt(): number | null {
    return this.#room.oldestAt();
  }

  after(ms: number, then: () => void): () => void {
    return this.#clock.after(ms, then);
  }

  /** Called when the holder asks for an offer. A ticket that missed its offer gets its place back. */
  asked(ticket: TicketState): void {
    if (ticket.phase !== "missed") return;
    this.#backInLine(ticket);
    this.pump();
  }

  /** The Card granted the claim, even if the offer has expired since. */
  claimed(ticket: TicketState, number: number): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card === null) return;
    cancelTimeout(ticket);
    const now = this.#clock.now();
    // The offer was taken back, but the Card has granted the slot: count it again.
    const { entry } = ticket;
    if (ticket.phase === "missed") {
      this.cards.offered(ticket.card, entry.attempt, entry.tenant, now, entry);
      this.#coalescer.hold(ticket);
    }
    ticket.phase = "running";
    this.#coalescer.began(ticket);
    this.admitted++;
    if (ticket.entry.avoid.length === 0) this.#budget = earn(this.#budget, now);
    if (!this.cards.claimed(ticket.card, ticket.entry.attempt, number, now)) return;
    // The run was already over when this call arrived, so a slot is free.
    this.#recap(ticket.entry.tenant);
    this.pump();
  }

  declined(ticket: TicketState, card: string, no: ClaimNo["no"]): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card !== card) return;
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.cards.refused(card);
    if (no !== "unlisted") this.#effects.ask([card]);
    this.#backInLine(ticket);
    this.pump();
    // The offer was based on outdated counts. The ticket has to wait after all, so the limits for new requests apply.
    const { attempt, again, job } = ticket.entry;
    if (this.#room.has(attempt) && !again && !job) this.#refuseUnlessRoom(ticket, true);
  }

  /** Requeues the request at its old place under a new attempt id. Returns false if the retry budget is spent. */
  retry(ticket: TicketState, attempt: string, avoid: string[]): boolean {
    if (ticket.phase === "over") return true;
    if (ticket.entry.attempt === attempt) return true;
    // If no card was tried (the claim came to nothing), it costs no retry.
    if (avoid.length > ticket.entry.avoid.length) {
      const { ok, budget } = spend(this.#budget, this.#clock.now());
      this.#budget = budget;
      if (!ok) return false;
    }
    if (ticket.phase === "offered") this.#withdraw(ticket);
    // A ticket without a fingerprint runs alone, so its followers do not wait for its next try.
    if (ticket.entry.fingerprint === null) this.#coalescer.left(ticket, true);
    this.#coalescer.part(ticket);
    this.#tickets.delete(ticket.entry.attempt);
    const before = ticket.entry.attempt;
    ticket.entry = { ...ticket.entry, attempt, avoid, again: true };
    this.#tickets.set(attempt, ticket);
    this.#coalescer.rename(before, attempt);
    // The card's last report may still show the old attempt; nobody may follow it.
    this.#coalescer.over(before);
    ticket.waitsSince = this.#clock.now();
    this.#backInLine(ticket);
    this.pump();
    return true;
  }

  finished(ticket: TicketState, finish: Finish, observed: Observed | null): void {
    if (ticket.phase === "over") return;
    this.#learn(observed);
    const wasOffered = ticket.phase === "offered";
    if (wasOffered) this.#withdraw(ticket);
    this.#over(ticket);
    this.#coalescer.ended(ticket.entry.attempt, finish);
    if (wasOffered) this.pump();
  }

  /** Applies the outcome of a run whose ticket was lost in a restart. */
  orphanFinished(attempt: string, finish: Finish, observed: Observed | null): void {
    this.#learn(observed);
    this.#coalescer.over(attempt);
    this.#coalescer.ended(attempt, finish);
  }

  /** The holder disposed its ticket or left explicitly. */
  left(ticket: TicketState): void {
    if (ticket.phase === "over") return;
    const wasRunning = ticket.phase === "running";
    if (!wasRunning && !ticket.entry.job) this.#departs(ticket.entry);
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#over(ticket);
    this.#coalescer.left(ticket, wasRunning);
    this.pump();
  }

  reasonOf({ entry, phase }: TicketState): WaitingOn | null {
    return phase === "offered" ? null : reasonToWait(this.#config, this.cards, entry, this.#clock.now());
  }

  waitingOn(ticket: TicketState): Waiting {
    const { attempt } = (this.#coalescer.inLineFor(ticket) ?? ticket).entry;
    const position = this.#room.has(attempt) ? this.#room.ahead(attempt) + 1 : 1;
    return { on: this.reasonOf(ticket), position };
  }

  /**
   * The estimate for a request; without a ticket here it is placed at the end of the queue. `concurrent`: slots that
   * the tenant may hold.
   */
  outlook(request: string, tenant: string, concurrent: number): Outlook {
    const now = this.#clock.now();
    const ticket = this.ticketOf(request);
    const { times } = this;
    const slots = Math.min(this.cards.capacity(now), concurrent);
    const estimates = {
      firstByteMs: known(times, now)?.firstByteMs ?? null,
      serviceMs: times?.totalMs ?? null,
      slotMs: times === null || slots === 0 ? null : times.totalMs / slots,
    };
    if (ticket?.phase === "running") return { waiting: null, ...estimates };
    const { on, position } =
      ticket === undefined
        ? {
            on: reasonToWait(this.#config, this.cards, { tenant, concurrent, avoid: [] }, now),
            position: this.#room.length + 1,
          }
        : this.waitingOn(ticket);
    if (on === null) return { waiting: { on, position: 1, startMs: 0 }, ...estimates };
    const willStart = on === "slots_busy" || on === "tenant_cap";
    return { waiting: { on, position, startMs: willStart ? startMs(times, position - 1, slots) : null }, ...estimates };
  }

  /** The latest ticket of a request, if it is not over. */
  ticketOf(request: string): TicketState | undefined {
    return this.#requests.get(request);
  }

  /** All tickets that are not over. */
  get tickets(): Iterable<TicketState> {
    return this.#tickets.values();
  }

  /** Offers free slots in queue order until no slot is free or none suits a waiting ticket. */
  pump(): void {
    // Refusing a ticket may lose a run, which calls this again; the running loop sees what that changed.
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      this.#pumpAll();
    } finally {
      this.#isPumping = false;
    }
  }

  // Private

  #pumpAll(): void {
    const now = this.#clock.now();
    if (this.#config === null) return;
    if (this.#room.length > 0 && this.cards.health(now) === "none")
      this.#refuseAll(admission.unhealthy(this.#admissionState(this.#config, now)));
    if (this.#config.paused) return;
    for (;;) {
      // Update the caps of all tenants whose counts have changed, before the queue is searched.
      for (const tenant of this.cards.changed()) this.#recap(tenant);
      const match = this.cards.best([], now) === null ? null : this.#room.next((avoid) => this.cards.best(avoid, now));
      if (match === null) break;
      this.#offer(match.entry, match.found, now);
    }
    if (this.queued > 0) this.#poller.wakeAt(this.cards.nextOpening(now));
  }

  #admissionState(config: PoolConfig, now: number): admission.AdmissionState {
    const [room, followers, addresses] = [this.#room, this.#coalescer, this.#addresses];
    return { config, room, followers, addresses, cards: this.cards, times: this.times, now };
  }

  /**
   * Admits a new ticket: (1) the Pool's configuration is older than the caller's; (2) the same request already has a
   * card: follow it; (3) refuse if no card takes work, the deadline cannot be met, or the client address has too many
   * requests; (4) join the queue; (5) offer a card at once if possible; (6) otherwise refuse if the queue is full or
   * the wait is too long.
   */
  #admit(ticket: TicketState): void {
    const { entry } = ticket;
    const config = this.#config;
    const now = this.#clock.now();
    // (1)
    if (config === null || config.version < entry.version || this.#isTelling(now)) {
      this.#settle(ticket, { kind: "behind", version: config?.version ?? 0 });
      return;
    }
    const state = this.#admissionState(config, now);
    // (2)
    if (this.#coalescer.follow(ticket, this.cards, this.#tickets)) {
      const full =
        entry.again || entry.job
          ? null
          : (admission.tooManyOfAddress(state, entry) ?? admission.tooManyOfTenant(state, entry));
      this.#refuseOrWatch(ticket, full);
      return;
    }
    // (3)
    const shut =
      entry.again || entry.job
        ? null
        : (admission.closed(state) ??
          admission.deadlineMissed(state, entry) ??
          admission.tooManyOfAddress(state, entry));
    if (shut !== null) {
      if (shut.reason === "no_healthy_card") this.#askAnew(now);
      this.#refuse(ticket, shut);
      return;
    }
    // (4)
    const isMore = this.#coalescer.wait(ticket);
    // (5)
    this.pump();
    if (ticket.phase !== "waiting") return;
    // (6)
    this.#watch(ticket);
    if (!entry.again && !entry.job) this.#refuseUnlessRoom(ticket, isMore);
  }

  /** Reports the departure unless the request re-enters soon: otherwise it would run although recorded as canceled. */
  #departs(entry: Entry): void {
    this.#departing.get(entry.request)?.();
    const stop = this.#clock.after(RETURN_MS, () => {
      this.#departing.delete(entry.request);
      this.#effects.departed(entry);
    });
    this.#departing.set(entry.request, stop);
  }

  /** Whether to reply `behind` because a card missed its configuration, so that the Worker provisions the card. */
  #isTelling(now: number): boolean {
    if (!this.cards.hasBehind || Math.abs(now - this.#toldBehindAt) < MEND_EVERY_MS) return false;
    this.#toldBehindAt = now;
    return true;
  }

  /**
   * Asks cards for their reports: nobody waits here, so nothing else would correct an outdated one. Not needed if it is
   * known when the next breaker becomes half-open: requests are let in from then on.
   */
  #askAnew(now: number): void {
    if (this.cards.nextOpening(now) !== null) return;
    if (Math.abs(now - this.#askedAt) < MEND_EVERY_MS) return;
    this.#askedAt = now;
    this.#effects.ask(this.#poller.some(this.cards.names()));
  }

  /**
   * Refuses a waiting ticket that exceeds a limit or cannot meet its deadline. `isMore`: it takes a place of its own in
   * the queue, because no other ticket of its tenant waits for the same.
   */
  #refuseUnlessRoom(ticket: TicketState, isMore: boolean): void {
    if (this.#config === null) return;
    const { entry } = ticket;
    const state = this.#admissionState(this.#config, this.#clock.now());
    const isInLine = this.#room.has(entry.attempt);
    const refusal =
      admission.tooManyOfTenant(state, entry) ??
      (isInLine && isMore ? this.#full(entry, state) : null) ??
      (isInLine ? admission.deadlineUnmeetable(state, entry) : null);
    // A ticket displaced by `#full` may have freed a card for this one.
    if (refusal !== null && ticket.phase === "waiting") this.#refuse(ticket, refusal);
  }

  #refuseOrWatch(ticket: TicketState, refusal: PoolRefusal | null): void {
    if (refusal === null) this.#watch(ticket);
    else this.#refuse(ticket, refusal);
  }

  /** Returns the refusal if the queue is full and no other ticket can be displaced; otherwise displaces one. */
  #full(entry: Entry, state: admission.AdmissionState): PoolRefusal | null {
    const full = admission.queueFull(state);
    if (full === null) return null;
    // The ticket is in the queue already; its tenant's share is computed without it.
    this.#room.leave(entry.attempt);
    const displaced = this.#room.displaced(entry.tenant, state.config.queue.max);
    this.#enterRoom(entry);
    const victim = displaced === null ? undefined : this.#tickets.get(displaced);
    if (victim === undefined) return full;
    this.#refuse(victim, full);
    return null;
  }

  /** Starts the timeout of a waiting ticket. A job waits as long as its holder does. */
  #watch(ticket: TicketState): void {
    if (ticket.phase !== "waiting" || this.#config === null) return;
    if (!ticket.entry.job) this.#setTimeout(ticket, this.#config);
    // While nobody waited, the cards may have delayed their reports.
    if (this.#poller.watch()) this.#effects.ask(this.cards.names());
  }

  #setTimeout(ticket: TicketState, { queue: { timeoutMs } }: PoolConfig): void {
    const now = this.#clock.now();
    const until = Math.min(ticket.waitsSince + timeoutMs, ticket.entry.deadlineAt ?? Infinity);
    // Clamped, so that a clock set back makes nobody wait longer.
    ticket.stop = this.#clock.after(Math.min(Math.max(0, until - now), timeoutMs), () => {
      if (ticket.phase === "waiting" && this.#config !== null) this.#timedOut(ticket, this.#config);
    });
  }

  /** A follower whose run has a card keeps waiting, because the timeout limits only the time in line. */
  #timedOut(ticket: TicketState, config: PoolConfig): void {
    const now = this.#clock.now();
    if (this.#coalescer.isOnCard(ticket) && now < (ticket.entry.deadlineAt ?? Infinity)) {
      ticket.waitsSince = now;
      this.#setTimeout(ticket, config);
    } else this.#refuse(ticket, admission.waitedOut(this.#admissionState(config, now), ticket.entry));
  }

  /**
   * Refuses all waiting tickets except jobs. Followers go first: otherwise each in turn would move into the queue, only
   * to be refused there.
   */
  #refuseAll(refusal: PoolRefusal): void {
    for (const { attempt } of this.#room.entries()) {
      const first = this.#tickets.get(attempt);
      if (first === undefined) continue;
      for (const ticket of [...this.#coalescer.behind(first), first])
        if (!ticket.entry.job) this.#refuse(ticket, refusal);
    }
  }

  #offer(entry: Entry, card: string, now: number): void {
    const ticket = this.#tickets.get(entry.attempt);
    this.#room.grant(entry.attempt);
    if (ticket === undefined) return;
    const pressed = this.cards.isTriedEarly(card);
    this.cards.offered(card, entry.attempt, entry.tenant, now, entry);
    this.#recap(entry.tenant);
    cancelTimeout(ticket);
    ticket.phase = "offered";
    ticket.card = card;
    this.#coalescer.hold(ticket);
    ticket.stop = this.#clock.after(OFFER_MS, () => {
      if (ticket.phase !== "offered") return;
      this.#withdraw(ticket);
      ticket.phase = "missed";
      ticket.reply = null;
      this.#coalescer.missed(ticket);
      this.pump();
    });
    const slotsLeft = Math.max(0, entry.concurrent - this.cards.holding(entry.tenant));
    setReply(ticket, { kind: "offer", card, pressed, others: this.#room.length > 0, slotsLeft });
  }

  #backInLine(ticket: TicketState): void {
    cancelTimeout(ticket);
    ticket.phase = "waiting";
    ticket.card = null;
    ticket.reply = null;
    this.#coalescer.wait(ticket);
    this.#watch(ticket);
  }

  #enterRoom(entry: Entry): void {
    this.#room.enter(entry);
    this.#recap(entry.tenant);
  }

  /** Takes an offer back. */
  #withdraw(ticket: TicketState): void {
    if (ticket.card !== null) this.cards.withdrawn(ticket.card, ticket.entry.attempt, this.#clock.now());
    this.#room.refund(ticket.entry.tenant);
    this.#recap(ticket.entry.tenant);
  }

  /** Updates whether the tenant is at its cap, after its slot count changed. */
  #recap(tenant: string): void {
    const concurrent = this.#room.concurrentOf(tenant);
    if (concurrent !== null) this.#room.cap(tenant, this.cards.holding(tenant) >= concurrent);
  }

  #refuse(ticket: TicketState, refusal: PoolRefusal): void {
    this.refused[refusal.reason] = (this.refused[refusal.reason] ?? 0) + 1;
    this.#settle(ticket, { kind: "refused", refusal });
    // A ticket that has tried a card had a run and lost it.
    this.#coalescer.left(ticket, ticket.entry.avoid.length > 0);
  }

  /** Ends a ticket with its final reply. */
  #settle(ticket: TicketState, reply: OfferReply): void {
    this.#over(ticket);
    setReply(ticket, reply);
  }

  #over(ticket: TicketState): void {
    cancelTimeout(ticket);
    if (ticket.phase !== "over") this.#addresses.remove(ticket.entry);
    ticket.phase = "over";
    this.#coalescer.leave(ticket);
    this.#coalescer.over(ticket.entry.attempt);
    if (this.#tickets.get(ticket.entry.attempt) === ticket) this.#tickets.delete(ticket.entry.attempt);
    if (this.#requests.get(ticket.entry.request) === ticket) this.#requests.delete(ticket.entry.request);
  }

  #learn(observed: Observed | null): void {
    if (observed === null) return;
    this.times = learn(this.times, observed, this.#clock.now());
    this.#effects.learned(this.times);
  }
}
