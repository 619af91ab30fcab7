/**
 * The Pool's desk: the life of its tickets. What happens outside (time, cards that are asked, records) is handed in.
 *
 * A ticket is
 *   waiting    in the line (waiting-room.ts), or following one that asked for the same (runs.ts)
 *   offered    a card is held for it for OFFER_MS, pending in the counts (choose-card.ts)
 *   missed     it did not claim in time: out of line until it speaks again
 *   running    it said that the Card said yes
 *   over       told, refused, finished, left
 *
 * Kept here: invariants 4, 5, 6 and 8 of DESIGN.md.
 */
import { Addresses } from "./addresses.ts";
import * as admission from "./admission.ts";
import { type Budget, earn, newBudget, spend } from "./budget.ts";
import { Cards } from "./choose-card.ts";
import type { Clock } from "./clock.ts";
import { learn, startMs, type Times } from "./estimate.ts";
import { Following } from "./following.ts";
import { Lookout } from "./lookout.ts";
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
import { calm, say, type TicketState } from "./ticket-state.ts";
import { WaitingRoom } from "./waiting-room.ts";
import { reasonToWait, type Waiting } from "./waiting-on.ts";

/** An offer that is not claimed in this time goes to the next. */
const OFFER_MS = 5_000;

/** What a desk has done outside. */
export interface Errands {
  /** These cards are asked for their reports. */
  ask(cards: string[]): void;
  /** A caller left before its run began. */
  departed(entry: Entry): void;
  /** How long runs take is known better now. */
  learned(times: Times): void;
}

export class Desk {
  readonly #clock: Clock;
  readonly #errands: Errands;
  readonly #room = new WaitingRoom();
  readonly #tickets = new Map<string, TicketState>();
  /** The same by request: the latest of each. */
  readonly #requests = new Map<string, TicketState>();
  readonly #following: Following;
  readonly #addresses = new Addresses();
  readonly refused: Record<string, number> = {};
  admitted = 0;
  cards = new Cards("", this.#addresses);
  times: Times | null;
  #config: PoolConfig | null = null;
  #budget: Budget;
  readonly #lookout: Lookout;

  constructor(clock: Clock, errands: Errands, times: Times | null) {
    this.#clock = clock;
    this.#errands = errands;
    this.times = times;
    this.#budget = newBudget(clock.now());
    const someoneWaits = (): boolean => this.queued > 0;
    this.#following = new Following(clock, {
      enter: ({ entry }) => this.#enterRoom(entry),
      leave: ({ entry }) => this.#room.leave(entry.attempt),
      settle: (ticket, finish) => this.#settle(ticket, { kind: "told", finish }),
      pump: () => this.pump(),
    });
    this.#lookout = new Lookout(clock, someoneWaits, () => {
      errands.ask(this.#lookout.some(this.cards.names()));
      this.pump();
    });
  }

  configure(config: PoolConfig): void {
    if (this.#config?.service !== config.service || this.cards.names().length === 0)
      this.cards = new Cards(config.service, this.#addresses);
    this.#config = config;
    this.cards.configure(config.cards, this.#clock.now());
    // A card that is gone from here no longer counts against a tenant's cap.
    for (const tenant of new Set(this.#room.entries().map((entry) => entry.tenant))) this.#recap(tenant);
    this.pump();
  }

  /** A place in line. Twice with one attempt is one place. */
  enter(entry: Entry): TicketState {
    const before = this.#tickets.get(entry.attempt);
    if (before !== undefined) return before;
    const ticket: TicketState = {
      entry,
      reply: null,
      waiters: new Set(),
      phase: "waiting",
      card: null,
      enteredAt: this.#clock.now(),
      stop: null,
      holders: 0,
    };
    this.#tickets.set(entry.attempt, ticket);
    this.#requests.set(entry.request, ticket);
    this.#addresses.add(entry);
    this.#admit(ticket);
    return ticket;
  }

  /** A Card tells what became of its slots. */
  report(report: CardReport): void {
    const before = this.cards.reportOf(report.card)?.held ?? [];
    if (!this.cards.report(report, this.#clock.now())) return;
    const runs = new Set(report.held.filter((held) => held.state === "leased").map((held) => held.attempt));
    for (const { attempt } of before) if (!runs.has(attempt)) this.#following.slotFreed(attempt);
    this.pump();
  }

  /** Somebody waits, or did a moment ago. */
  get attentive(): boolean {
    return this.#lookout.attentive;
  }

  get queued(): number {
    return this.#room.length + this.#following.count;
  }

  get oldestAt(): number | null {
    return this.#room.oldestAt();
  }

  after(ms: number, then: () => void): () => void {
    return this.#clock.after(ms, then);
  }

  /** Who missed its offer has its place back when it asks for another. */
  asked(ticket: TicketState): void {
    if (ticket.phase !== "missed") return;
    this.#backInLine(ticket);
    this.pump();
  }

  /** Late or not: the Card said yes. */
  claimed(ticket: TicketState, number: number): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card === null) return;
    calm(ticket);
    const now = this.#clock.now();
    // Its offer was taken back, yet the slot is its own.
    const { entry } = ticket;
    if (ticket.phase === "missed") {
      this.cards.offered(ticket.card, entry.attempt, entry.tenant, now, entry);
      this.#following.hold(ticket);
    }
    ticket.phase = "running";
    this.#following.began(ticket);
    this.admitted++;
    if (ticket.entry.avoid.length === 0) this.#budget = earn(this.#budget, now);
    if (!this.cards.claimed(ticket.card, ticket.entry.attempt, number, now)) return;
    // A run that was over before this word of it came has left a slot free.
    this.#recap(ticket.entry.tenant);
    this.pump();
  }

  declined(ticket: TicketState, card: string, no: ClaimNo["no"]): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card !== card) return;
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.cards.refused(card);
    if (no !== "unlisted") this.#errands.ask([card]);
    this.#backInLine(ticket);
    this.pump();
    // The counts were wrong that let it in: now it is a newcomer who has to wait.
    const { attempt, again, job } = ticket.entry;
    if (this.#room.has(attempt) && !again && !job) this.#refuseUnlessRoom(ticket, true);
  }

  /** The same request under a new attempt: its place is that of its arrival. False: no more retries for now. */
  retry(ticket: TicketState, attempt: string, avoid: string[]): boolean {
    if (ticket.phase === "over") return true;
    if (ticket.entry.attempt === attempt) return true;
    // A claim that came to nothing has tried no card: it costs no retry.
    if (avoid.length > ticket.entry.avoid.length) {
      const { ok, budget } = spend(this.#budget, this.#clock.now());
      this.#budget = budget;
      if (!ok) return false;
    }
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#following.part(ticket);
    this.#tickets.delete(ticket.entry.attempt);
    const before = ticket.entry.attempt;
    ticket.entry = { ...ticket.entry, attempt, avoid, again: true };
    this.#tickets.set(attempt, ticket);
    this.#following.rename(before, attempt);
    // Its card's last report may show it still: nobody is to follow that.
    this.#following.over(before);
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
    this.#following.ended(ticket.entry.attempt, finish);
    if (wasOffered) this.pump();
  }

  /** How a run ended whose ticket was lost with a restart. */
  orphanFinished(attempt: string, finish: Finish, observed: Observed | null): void {
    this.#learn(observed);
    this.#following.over(attempt);
    this.#following.ended(attempt, finish);
  }

  /** The holder is gone, or says that it goes. */
  left(ticket: TicketState): void {
    if (ticket.phase === "over") return;
    const wasRunning = ticket.phase === "running";
    if (!wasRunning && !ticket.entry.job) this.#errands.departed(ticket.entry);
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#over(ticket);
    this.#following.left(ticket, wasRunning);
    this.pump();
  }

  reasonOf({ entry }: TicketState): WaitingOn {
    return reasonToWait(this.#config, this.cards, entry, this.#clock.now());
  }

  waitingOn(ticket: TicketState): Waiting {
    const { attempt } = ticket.entry;
    const position = this.#room.has(attempt) ? this.#room.ahead(attempt) + 1 : 1;
    return { on: this.reasonOf(ticket), position };
  }

  /**
   * What is to be expected for a request; one without a ticket here would come last in line. `concurrent`: slots that its
   * tenant may hold.
   */
  outlook(request: string, tenant: string, concurrent: number): Outlook {
    const now = this.#clock.now();
    const ticket = this.#requests.get(request);
    const { times } = this;
    const slots = Math.min(this.cards.capacity(now), concurrent);
    const known = {
      serviceMs: times?.totalMs ?? null,
      slotMs: times === null || slots === 0 ? null : times.totalMs / slots,
    };
    if (ticket?.phase === "running") return { waiting: null, ...known };
    const { on, position } =
      ticket === undefined
        ? { on: reasonToWait(this.#config, this.cards, { tenant, concurrent }, now), position: this.#room.length + 1 }
        : this.waitingOn(ticket);
    const willStart = on === "slots_busy" || on === "tenant_cap";
    return { waiting: { on, position, startMs: willStart ? startMs(times, position - 1, slots) : null }, ...known };
  }

  /** All that are in line or on a card. */
  get tickets(): Iterable<TicketState> {
    return this.#tickets.values();
  }

  /** Gives out what is free, in the order of the line, until nothing is free or nobody suits. */
  pump(): void {
    const now = this.#clock.now();
    if (this.#config === null) return;
    if (this.#room.length > 0 && this.cards.health(now) === "none")
      this.#refuseAll(admission.unhealthy(this.#hall(this.#config, now)));
    if (this.#config.paused) return;
    for (;;) {
      // Whatever moved a tenant's count, its cap is right before it is looked at.
      for (const tenant of this.cards.changed()) this.#recap(tenant);
      const match = this.#room.next((entry) => this.cards.best(entry.avoid, now));
      if (match === null) break;
      this.#offer(match.entry, match.found, now);
    }
    if (this.queued > 0) this.#lookout.wakeAt(this.cards.nextOpening(now));
  }

  // Private

  #hall(config: PoolConfig, now: number): admission.Hall {
    const [room, followers, addresses] = [this.#room, this.#following, this.#addresses];
    return { config, room, followers, addresses, cards: this.cards, times: this.times, now };
  }

  /**
   * A newcomer: (1) an older configuration than the asker's; (2) somebody has a card for the same: follow; (3) nothing
   * takes work, it cannot make its deadline, or its client address has too many here; (4) in line; (5) offered at once,
   * or (6) no room or no time.
   */
  #admit(ticket: TicketState): void {
    const { entry } = ticket;
    const config = this.#config;
    const now = this.#clock.now();
    // (1)
    if (config === null || config.version < entry.version) {
      this.#settle(ticket, { kind: "behind", version: config?.version ?? 0 });
      return;
    }
    const hall = this.#hall(config, now);
    // (2)
    if (this.#following.follow(ticket, this.cards, this.#tickets)) {
      const full = entry.again || entry.job ? null : (admission.swarm(hall, entry) ?? admission.crowd(hall, entry));
      this.#refuseOrWatch(ticket, full);
      return;
    }
    // (3)
    const shut =
      entry.again || entry.job
        ? null
        : (admission.shut(hall) ?? admission.hopeless(hall, entry) ?? admission.swarm(hall, entry));
    if (shut !== null) {
      this.#refuse(ticket, shut);
      return;
    }
    // (4)
    const isMore = this.#following.wait(ticket);
    // (5)
    this.pump();
    if (ticket.phase !== "waiting") return;
    // (6)
    this.#watch(ticket);
    if (!entry.again && !entry.job) this.#refuseUnlessRoom(ticket, isMore);
  }

  /** Who waits must find room, unless it takes no place of the line beside its tenant's others, and have the time. */
  #refuseUnlessRoom(ticket: TicketState, isMore: boolean): void {
    if (this.#config === null) return;
    const { entry } = ticket;
    const hall = this.#hall(this.#config, this.#clock.now());
    const isInLine = this.#room.has(entry.attempt);
    const refusal =
      admission.crowd(hall, entry) ??
      (isInLine && isMore ? this.#full(entry, hall) : null) ??
      (isInLine ? admission.late(hall, entry) : null);
    // Whom it displaced may have left it a card meanwhile.
    if (refusal !== null && ticket.phase === "waiting") this.#refuse(ticket, refusal);
  }

  #refuseOrWatch(ticket: TicketState, refusal: PoolRefusal | null): void {
    if (refusal === null) this.#watch(ticket);
    else this.#refuse(ticket, refusal);
  }

  /** Too many, and nobody stands behind whose place it may take. */
  #full(entry: Entry, hall: admission.Hall): PoolRefusal | null {
    const full = admission.full(hall);
    if (full === null) return null;
    // The newcomer stands in line already; its share is counted without it.
    this.#room.leave(entry.attempt);
    const displaced = this.#room.displaced(entry.tenant, hall.config.queue.max);
    this.#enterRoom(entry);
    const victim = displaced === null ? undefined : this.#tickets.get(displaced);
    if (victim === undefined) return full;
    this.#refuse(victim, full);
    return null;
  }

  /** Sees to it that a waiting ticket leaves in time. */
  #watch(ticket: TicketState): void {
    if (ticket.phase !== "waiting" || this.#config === null) return;
    const now = this.#clock.now();
    const { timeoutMs } = this.#config.queue;
    const until = Math.min(ticket.enteredAt + timeoutMs, ticket.entry.deadlineAt ?? Infinity);
    // A clock that was set back makes nobody wait longer. A job waits as long as whoever holds it likes.
    if (!ticket.entry.job)
      ticket.stop = this.#clock.after(Math.min(Math.max(0, until - now), timeoutMs), () => {
        if (ticket.phase !== "waiting" || this.#config === null) return;
        this.#refuse(ticket, admission.waitedOut(this.#hall(this.#config, this.#clock.now()), ticket.entry));
      });
    // Until now the cards took their time to tell.
    if (this.#lookout.watch()) this.#errands.ask(this.cards.names());
  }

  /**
   * All but jobs, which wait. Those who follow go before the one in line: else each of them in turn would come into it
   * only to be refused.
   */
  #refuseAll(refusal: PoolRefusal): void {
    for (const { attempt } of this.#room.entries()) {
      const first = this.#tickets.get(attempt);
      if (first === undefined) continue;
      for (const ticket of [...this.#following.behind(first), first])
        if (!ticket.entry.job) this.#refuse(ticket, refusal);
    }
  }

  #offer(entry: Entry, card: string, now: number): void {
    const ticket = this.#tickets.get(entry.attempt);
    this.#room.grant(entry.attempt);
    if (ticket === undefined) return;
    const pressed = this.cards.isPressed(card);
    this.cards.offered(card, entry.attempt, entry.tenant, now, entry);
    this.#recap(entry.tenant);
    calm(ticket);
    ticket.phase = "offered";
    ticket.card = card;
    this.#following.hold(ticket);
    ticket.stop = this.#clock.after(OFFER_MS, () => {
      if (ticket.phase !== "offered") return;
      this.#withdraw(ticket);
      ticket.phase = "missed";
      ticket.reply = null;
      this.#following.missed(ticket);
      this.pump();
    });
    const slotsLeft = Math.max(0, entry.concurrent - this.cards.holding(entry.tenant));
    say(ticket, { kind: "offer", card, pressed, others: this.#room.length > 0, slotsLeft });
  }

  #backInLine(ticket: TicketState): void {
    calm(ticket);
    ticket.phase = "waiting";
    ticket.card = null;
    ticket.reply = null;
    this.#following.wait(ticket);
    this.#watch(ticket);
  }

  #enterRoom(entry: Entry): void {
    this.#room.enter(entry);
    this.#recap(entry.tenant);
  }

  /** Takes an offer back from a ticket. */
  #withdraw(ticket: TicketState): void {
    if (ticket.card !== null) this.cards.withdrawn(ticket.card, ticket.entry.attempt, this.#clock.now());
    this.#room.refund(ticket.entry.tenant);
    this.#recap(ticket.entry.tenant);
  }

  /** A tenant's slots changed: it may have come below its cap, or up to it. */
  #recap(tenant: string): void {
    const concurrent = this.#room.concurrentOf(tenant);
    if (concurrent !== null) this.#room.cap(tenant, this.cards.holding(tenant) >= concurrent);
  }

  #refuse(ticket: TicketState, refusal: PoolRefusal): void {
    this.refused[refusal.reason] = (this.refused[refusal.reason] ?? 0) + 1;
    this.#settle(ticket, { kind: "refused", refusal });
    // Who has tried a card already has had a run, and lost it.
    this.#following.left(ticket, ticket.entry.avoid.length > 0);
  }

  /** The last word to a ticket. */
  #settle(ticket: TicketState, reply: OfferReply): void {
    this.#over(ticket);
    say(ticket, reply);
  }

  #over(ticket: TicketState): void {
    calm(ticket);
    if (ticket.phase !== "over") this.#addresses.remove(ticket.entry);
    ticket.phase = "over";
    this.#following.leave(ticket);
    this.#following.over(ticket.entry.attempt);
    if (this.#tickets.get(ticket.entry.attempt) === ticket) this.#tickets.delete(ticket.entry.attempt);
    if (this.#requests.get(ticket.entry.request) === ticket) this.#requests.delete(ticket.entry.request);
  }

  #learn(observed: Observed | null): void {
    if (observed === null) return;
    this.times = learn(this.times, observed, this.#clock.now());
    this.#errands.learned(this.times);
  }
}
