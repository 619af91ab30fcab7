/**
 * The Pool: the line in front of a service's cards, and who is offered which card. It never says yes, it offers; its
 * counts of the cards are advice that every Card's report mends.
 *
 * A ticket is
 *   waiting    in the line (waiting-room.ts), or following a leader that asked for the same
 *   offered    a card is held for it for OFFER_MS, pending in the counts (choose-card.ts)
 *   missed     it did not claim in time: out of line until it speaks again
 *   running    it said that the Card said yes
 *   over       told, refused, finished, left
 *
 * Kept here: invariants 4, 5, 6 and 8 of DESIGN.md.
 */
import { DurableObject } from "cloudflare:workers";
import { Cards } from "./choose-card.ts";
import { learn, startMs, type Times } from "./estimate.ts";
import type {
  CardReport,
  CardRights,
  ClaimNo,
  Entry,
  Finish,
  Observed,
  OfferReply,
  PoolConfig,
  PoolRefusal,
  PoolStatus,
  TenantRights,
  WaitingOn,
} from "./protocol.ts";
import { type Run, Runs } from "./runs.ts";
import { Ticket, type TicketState } from "./ticket.ts";
import { WaitingRoom } from "./waiting-room.ts";

/** An offer that is not claimed in this time goes to the next. */
const OFFER_MS = 5_000;
/** While requests wait and nothing is free, cards are asked anew this often: a lost report costs no longer. */
const ASK_AGAIN_MS = 5_000;
/** A Pool that starts hears its cards before it offers anything, unless they take longer than this. */
const HEAR_MS_MAX = 1_000;
/** Cards asked at the same time. */
const ASKED_AT_ONCE = 50;
/** A run whose ticket was lost with a restart is given this long after its slot is free to say how it ended. */
const ORPHAN_MS = 5_000;
/** Runs that are over, remembered because their card's last report may still show them. */
const OVER_MAX = 1_000;
/** Learned times are stored at most this often. */
const KEEP_TIMES_MS = 5_000;
/** Retry-After when nothing is known yet. */
const RETRY_UNKNOWN_MS = 2_000;
const RETRY_PAUSED_MS = 15_000;

/** The status in the record of a request whose caller hung up. */
const CLIENT_GONE = 499;
/** The reason in the finish of a run that was broken off for its caller's going. */
const CALLER_WENT = "client_gone";

interface PoolEnv {
  TENANT: { getByName(name: string): TenantRights };
  CARD: { getByName(name: string): CardRights };
}

export class Pool extends DurableObject<PoolEnv> {
  readonly #room = new WaitingRoom();
  readonly #tickets = new Map<string, TicketState>();
  readonly #runs = new Runs<TicketState>();
  readonly #runsOver = new Set<string>();
  readonly #refused: Record<string, number> = {};
  #cards = new Cards("");
  #config: PoolConfig | null;
  #times: Times | null;
  #timesKeptAt = 0;
  #admitted = 0;
  #asked = 0;
  #timer: { at: number; handle: ReturnType<typeof setTimeout> } | null = null;

  constructor(ctx: DurableObjectState, env: PoolEnv) {
    super(ctx, env);
    this.#config = ctx.storage.kv.get<PoolConfig>("config") ?? null;
    this.#times = ctx.storage.kv.get<Times>("times") ?? null;
    const config = this.#config;
    // What ran before the start counts against its tenant, and may be what a newcomer asks for.
    if (config !== null)
      void ctx.blockConcurrencyWhile(() => Promise.race([this.#adopt(config), scheduler.wait(HEAR_MS_MAX)]));
  }

  /** Takes over a newer configuration; an older or equal one changes nothing. */
  async configure(config: PoolConfig): Promise<void> {
    if (this.#config !== null && config.version <= this.#config.version) return;
    this.ctx.storage.kv.put("config", config);
    this.ctx.waitUntil(this.#adopt(config));
    this.#pump();
  }

  /** A place in line. Always a ticket; a no comes from its `offer`. Twice with one attempt is one place. */
  async enter(entry: Entry): Promise<Ticket> {
    const known = this.#tickets.get(entry.attempt);
    if (known !== undefined) return new Ticket(known, this.#rights);
    const ticket: TicketState = {
      entry,
      reply: null,
      wake: null,
      phase: "waiting",
      card: null,
      enteredAt: Date.now(),
      timer: null,
      holders: 0,
    };
    this.#tickets.set(entry.attempt, ticket);
    this.#admit(ticket);
    return new Ticket(ticket, this.#rights);
  }

  /** A Card tells what became of its slots. */
  async report(report: CardReport): Promise<void> {
    const before = this.#cards.reportOf(report.card)?.held ?? [];
    if (!this.#cards.report(report, Date.now())) return;
    const runs = new Set(report.held.filter((held) => held.state === "leased").map((held) => held.attempt));
    for (const { attempt } of before) if (!runs.has(attempt)) this.#orphanEnded(attempt);
    this.#pump();
  }

  /** How a run ended whose ticket was lost with this object's restart. */
  async finished(attempt: string, finish: Finish, observed: Observed | null): Promise<void> {
    if (observed !== null) this.#learn(observed);
    this.#runOver(attempt);
    const run = this.#runs.ofLeader(attempt);
    if (run !== undefined) this.#runEnded(run, finish);
  }

  /** A card that takes work, for a question that needs no slot; `behind` as in `enter`, no card when none does. */
  async healthyCard(avoid: string[], version: number): Promise<{ card: string | null; behind: boolean }> {
    if (this.#config === null || this.#config.version < version) return { card: null, behind: true };
    const now = Date.now();
    // Just started: ask now, for nobody waits in line for the answer.
    if (this.#cards.health(now) === "unknown")
      await Promise.all(
        this.#cards
          .silent()
          .slice(0, ASKED_AT_ONCE)
          .map((card) => this.#askOne(card)),
      );
    return { card: this.#cards.working(avoid, now), behind: false };
  }

  async status(): Promise<PoolStatus> {
    const oldestAt = this.#room.oldestAt();
    return {
      service: this.#config?.service ?? "",
      version: this.#config?.version ?? 0,
      paused: this.#config?.paused ?? false,
      queued: this.#room.length + this.#runs.followers,
      oldestWaitMs: oldestAt === null ? 0 : Math.max(0, Date.now() - oldestAt),
      reports: this.#cards.reports(),
      serviceMs: this.#times?.totalMs ?? null,
      refused: { ...this.#refused },
      admitted: this.#admitted,
    };
  }

  // Private

  /** What a ticket's holder may do; closures, so that nothing else can be called from outside. */
  readonly #rights = {
    waitingOn: (ticket: TicketState) => this.#waitingOn(ticket),
    asked: (ticket: TicketState) => this.#askedAgain(ticket),
    claimed: (ticket: TicketState, number: number) => this.#claimed(ticket, number),
    declined: (ticket: TicketState, card: string, no: ClaimNo["no"]) => this.#declined(ticket, card, no),
    retry: (ticket: TicketState, attempt: string, avoid: string[]) => this.#retry(ticket, attempt, avoid),
    finished: (ticket: TicketState, finish: Finish, observed: Observed | null) =>
      this.#ticketFinished(ticket, finish, observed),
    left: (ticket: TicketState) => this.#left(ticket),
  };

  /** Ends when every card that it knows nothing of was asked. */
  #adopt(config: PoolConfig): Promise<void> {
    if (this.#config?.service !== config.service || this.#cards.names().length === 0)
      this.#cards = new Cards(config.service);
    this.#config = config;
    this.#cards.configure(config.cards, Date.now());
    // A card that is gone from here no longer counts against a tenant's cap.
    for (const tenant of new Set(this.#room.entries().map((entry) => entry.tenant))) this.#recap(tenant);
    return this.#ask(this.#cards.silent());
  }

  /** Asks cards for their reports; what they answer comes in as if they had told. */
  async #ask(cards: string[]): Promise<void> {
    for (let i = 0; i < cards.length; i += ASKED_AT_ONCE) {
      await Promise.all(cards.slice(i, i + ASKED_AT_ONCE).map((card) => this.#askOne(card)));
    }
  }

  async #askOne(card: string): Promise<void> {
    try {
      await this.report(await this.env.CARD.getByName(card).report());
    } catch (error) {
      // Asked again by the timer while anybody waits.
      console.warn(JSON.stringify({ event: "card_silent", card, error: String(error) }));
    }
  }

  /**
   * A newcomer: (1) an older configuration than the asker's; (2) somebody runs the same: follow; (3) nothing takes
   * work; (4) it cannot make its deadline even if it starts at once; (5) in line; (6) offered at once, or (7) no room,
   * or (8) no time.
   */
  #admit(ticket: TicketState): void {
    const { entry } = ticket;
    const config = this.#config;
    const now = Date.now();
    // (1)
    if (config === null || config.version < entry.version) {
      this.#settle(ticket, { kind: "behind", version: config?.version ?? 0 });
      return;
    }
    // (2)
    if (entry.fingerprint !== null && this.#follow(ticket, entry.fingerprint)) {
      if (!entry.again && this.#waitingOf(entry.tenant) > entry.waiting) this.#refuse(ticket, this.#crowd(entry));
      else this.#watch(ticket, now);
      return;
    }
    // (3)
    const shut = entry.again ? null : this.#shut(now);
    if (shut !== null) {
      this.#refuse(ticket, shut);
      return;
    }
    // (4)
    const hopeless = entry.again ? null : this.#hopeless(entry, now);
    if (hopeless !== null) {
      this.#refuse(ticket, hopeless);
      return;
    }
    // (5)
    this.#room.enter(entry);
    this.#recap(entry.tenant);
    if (entry.fingerprint !== null) this.#runs.lead(entry.fingerprint, entry.attempt, ticket);
    // (6)
    this.#pump();
    if (ticket.phase !== "waiting" || entry.again) {
      this.#watch(ticket, now);
      return;
    }
    // (7)
    const crowded = this.#crowded(ticket, config);
    if (crowded !== null) {
      this.#refuse(ticket, crowded);
      return;
    }
    // (8)
    const late = this.#late(entry, now);
    if (late !== null) this.#refuse(ticket, late);
    else this.#watch(ticket, now);
  }

  #follow(ticket: TicketState, fingerprint: string): boolean {
    if (this.#runs.follow(fingerprint, ticket)) return true;
    const attempt = this.#cards.running(fingerprint, this.#runsOver);
    if (attempt === null) return false;
    // It runs since before this object restarted: its ticket is lost, its lease is not.
    this.#runs.lead(fingerprint, attempt, null);
    return this.#runs.follow(fingerprint, ticket);
  }

  /** Why nothing new comes in, or null. */
  #shut(now: number): PoolRefusal | null {
    if (this.#config?.paused) return { reason: "paused", retryAfterMs: RETRY_PAUSED_MS };
    return this.#cards.health(now) === "none" ? this.#unhealthy(now) : null;
  }

  #unhealthy(now: number): PoolRefusal {
    const { at, cause } = this.#cards.nextTrial(now);
    return { reason: "no_healthy_card", cause, retryAfterMs: at === null ? RETRY_PAUSED_MS : Math.max(1000, at - now) };
  }

  #waitingOf(tenant: string): number {
    return this.#room.lengthOf(tenant) + this.#runs.followersOf(tenant);
  }

  #crowd(entry: Entry): PoolRefusal {
    const waiting = this.#waitingOf(entry.tenant) - 1;
    return { reason: "concurrency", waiting, max: entry.waiting, retryAfterMs: this.#drainMs(waiting) };
  }

  /** Time in which a line of this length is served, by present knowledge. */
  #drainMs(length: number): number {
    return startMs(this.#times, length, this.#cards.capacity(Date.now())) ?? RETRY_UNKNOWN_MS;
  }

  #crowded(ticket: TicketState, config: PoolConfig): PoolRefusal | null {
    const { entry } = ticket;
    if (this.#waitingOf(entry.tenant) > entry.waiting) return this.#crowd(entry);
    const length = this.#room.length - 1 + this.#runs.followers;
    if (length < config.queue.max) return null;
    const full: PoolRefusal = {
      reason: "queue_full",
      length,
      max: config.queue.max,
      retryAfterMs: this.#drainMs(length),
    };
    // The newcomer stands in line already; its share is counted without it.
    this.#room.leave(entry.attempt);
    const displaced = this.#room.displaced(entry.tenant, config.queue.max);
    this.#room.enter(entry);
    this.#recap(entry.tenant);
    const victim = displaced === null ? undefined : this.#tickets.get(displaced);
    if (victim === undefined) return full;
    this.#refuse(victim, full);
    return null;
  }

  /** The caller's own deadline, against the time to the first byte alone: a start that comes too late is none. */
  #hopeless({ deadlineAt }: Entry, now: number): PoolRefusal | null {
    if (deadlineAt === null || this.#times === null) return null;
    const estimateMs = this.#times.firstByteMs;
    return now + estimateMs <= deadlineAt
      ? null
      : { reason: "deadline_unmeetable", estimateMs, retryAfterMs: RETRY_UNKNOWN_MS };
  }

  /** The caller's own deadline, against the estimate; without an estimate it is let in. */
  #late(entry: Entry, now: number): PoolRefusal | null {
    if (entry.deadlineAt === null || this.#times === null) return null;
    const line = startMs(this.#times, this.#room.ahead(entry.attempt), this.#cards.capacity(now)) ?? 0;
    const own = startMs(this.#times, this.#room.lengthOf(entry.tenant) - 1, entry.concurrent) ?? 0;
    const capped = this.#cards.holding(entry.tenant) >= entry.concurrent;
    const estimateMs = Math.max(line, capped ? own : 0) + this.#times.firstByteMs;
    if (now + estimateMs <= entry.deadlineAt) return null;
    return { reason: "deadline_unmeetable", estimateMs, retryAfterMs: line };
  }

  /** Sees to it that a waiting ticket leaves in time. */
  #watch(ticket: TicketState, now: number): void {
    if (ticket.phase !== "waiting" || this.#config === null) return;
    const until = Math.min(
      ticket.enteredAt + this.#config.queue.timeoutMs,
      ticket.entry.deadlineAt ?? Number.POSITIVE_INFINITY,
    );
    ticket.timer = setTimeout(
      () => {
        if (ticket.phase !== "waiting") return;
        const waitedMs = Date.now() - ticket.entry.arrivedAt;
        this.#refuse(ticket, { reason: "queue_timeout", waitedMs, retryAfterMs: this.#drainMs(this.#room.length) });
      },
      Math.max(0, until - now),
    );
    this.#schedule(now + ASK_AGAIN_MS);
  }

  /** Gives out what is free, in the order of the line, until nothing is free or nobody suits. */
  #pump(): void {
    const now = Date.now();
    if (this.#config === null) return;
    if (this.#room.length > 0 && this.#cards.health(now) === "none") this.#refuseAll(this.#unhealthy(now));
    if (this.#config.paused) return;
    for (;;) {
      // Whatever moved a tenant's count, its cap is right before it is looked at.
      for (const tenant of this.#cards.changed()) this.#recap(tenant);
      const match = this.#room.next((entry) => this.#cards.best(entry.avoid, now));
      if (match === null) break;
      this.#offer(match.entry, match.found, now);
    }
    if (this.#room.length > 0) this.#schedule(Math.min(this.#cards.nextTrial(now).at ?? Infinity, now + ASK_AGAIN_MS));
  }

  /** Those who follow go before their leader: else each of them in turn would lead only to be refused. */
  #refuseAll(refusal: PoolRefusal): void {
    for (const { attempt } of this.#room.entries()) {
      const ticket = this.#tickets.get(attempt);
      const followers = Array.from(this.#runs.ofLeader(attempt)?.followers ?? []);
      for (const follower of followers) this.#refuse(follower, refusal);
      if (ticket !== undefined) this.#refuse(ticket, refusal);
    }
  }

  #offer(entry: Entry, card: string, now: number): void {
    const ticket = this.#tickets.get(entry.attempt);
    this.#room.grant(entry.attempt);
    if (ticket === undefined) return;
    this.#cards.offered(card, entry.attempt, entry.tenant, now);
    this.#recap(entry.tenant);
    this.#stopTimer(ticket);
    ticket.phase = "offered";
    ticket.card = card;
    ticket.timer = setTimeout(() => {
      if (ticket.phase !== "offered") return;
      this.#withdraw(ticket);
      ticket.phase = "missed";
      ticket.reply = null;
      this.#pump();
    }, OFFER_MS);
    this.#reply(ticket, { kind: "offer", card });
  }

  /** Who missed its offer has its place back when it asks for another. */
  #askedAgain(ticket: TicketState): void {
    if (ticket.phase !== "missed") return;
    this.#backInLine(ticket);
    this.#pump();
  }

  /** Late or not: the Card said yes. */
  #claimed(ticket: TicketState, number: number): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card === null) return;
    this.#stopTimer(ticket);
    ticket.phase = "running";
    this.#admitted++;
    if (!this.#cards.claimed(ticket.card, ticket.entry.attempt, number, Date.now())) return;
    // A run that was over before this word of it came has left a slot free.
    this.#recap(ticket.entry.tenant);
    this.#pump();
  }

  #declined(ticket: TicketState, card: string, no: ClaimNo["no"]): void {
    if ((ticket.phase !== "offered" && ticket.phase !== "missed") || ticket.card !== card) return;
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#cards.refused(card);
    if (no !== "unlisted") this.ctx.waitUntil(this.#askOne(card));
    this.#backInLine(ticket);
    this.#pump();
  }

  /** The same request, another try: its place is that of its arrival. */
  #retry(ticket: TicketState, attempt: string, avoid: string[]): void {
    if (ticket.phase === "over" || ticket.entry.attempt === attempt) return;
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#room.leave(ticket.entry.attempt);
    this.#tickets.delete(ticket.entry.attempt);
    const before = ticket.entry.attempt;
    ticket.entry = { ...ticket.entry, attempt, avoid, again: true };
    this.#tickets.set(attempt, ticket);
    this.#runs.rename(before, attempt);
    this.#backInLine(ticket);
    this.#pump();
  }

  #backInLine(ticket: TicketState): void {
    this.#stopTimer(ticket);
    ticket.phase = "waiting";
    ticket.card = null;
    ticket.reply = null;
    const { entry } = ticket;
    this.#room.enter(entry);
    this.#recap(entry.tenant);
    this.#watch(ticket, Date.now());
  }

  /** Takes an offer back from a ticket. */
  #withdraw(ticket: TicketState): void {
    if (ticket.card !== null) this.#cards.withdrawn(ticket.card, ticket.entry.attempt, Date.now());
    this.#room.refund(ticket.entry.tenant);
    this.#recap(ticket.entry.tenant);
  }

  #ticketFinished(ticket: TicketState, finish: Finish, observed: Observed | null): void {
    if (ticket.phase === "over") return;
    if (observed !== null) this.#learn(observed);
    const offered = ticket.phase === "offered";
    if (offered) this.#withdraw(ticket);
    this.#over(ticket);
    if (offered) this.#pump();
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#runEnded(run, finish);
  }

  /** The holder is gone, or says that it goes. */
  #left(ticket: TicketState): void {
    if (ticket.phase === "over") return;
    if (ticket.phase !== "running") this.#recordLeft(ticket.entry);
    const wasRunning = ticket.phase === "running";
    if (ticket.phase === "offered") this.#withdraw(ticket);
    this.#over(ticket);
    this.#runs.unfollow(ticket);
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#succeed(run, wasRunning);
    this.#pump();
  }

  /** A caller who leaves the line takes its Worker along: nobody else can say what became of the request. */
  #recordLeft({ tenant, request }: Entry): void {
    const recorded = this.env.TENANT.getByName(tenant).record(request, "canceled", CLIENT_GONE, [], "nothing");
    this.ctx.waitUntil(
      recorded.catch((error: unknown) =>
        console.warn(JSON.stringify({ event: "record_lost", request, error: String(error) })),
      ),
    );
  }

  #runEnded(run: Run<TicketState>, finish: Finish): void {
    if (finish.kind === "failed") {
      // A caller who goes takes his own run along, and says nothing of how another would end.
      this.#succeed(run, finish.reason !== CALLER_WENT, finish.reason);
      return;
    }
    this.#runs.end(run);
    for (const ticket of run.followers) {
      if (finish.kind === "alone") this.#alone(ticket);
      else this.#settle(ticket, { kind: "told", finish });
    }
    this.#pump();
  }

  /** The run is lost: the next follower starts it again, once; after that all are told. */
  #succeed(run: Run<TicketState>, ran: boolean, reason = "origin_reset"): void {
    const next = run.followers.values().next().value;
    const lost = run.lost + (ran ? 1 : 0);
    this.#runs.end(run);
    if (next === undefined) return;
    if (lost > 1) {
      for (const ticket of run.followers) this.#settle(ticket, { kind: "told", finish: { kind: "failed", reason } });
      return;
    }
    run.followers.delete(next);
    this.#runs.lead(run.fingerprint, next.entry.attempt, next, lost, run.followers);
    this.#backInLine(next);
    this.#pump();
  }

  #alone(ticket: TicketState): void {
    ticket.entry = { ...ticket.entry, fingerprint: null };
    this.#backInLine(ticket);
  }

  /** A slot is free whose run has followers but no ticket: it may still say how it ended, else it is lost. */
  #orphanEnded(attempt: string): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined || run.leader !== null) return;
    setTimeout(() => {
      const still = this.#runs.ofLeader(attempt);
      if (still !== undefined) this.#succeed(still, true);
    }, ORPHAN_MS);
  }

  /** A tenant's slots changed: it may have come below its cap, or up to it. */
  #recap(tenant: string): void {
    const concurrent = this.#room.concurrentOf(tenant);
    if (concurrent !== null) this.#room.cap(tenant, this.#cards.holding(tenant) >= concurrent);
  }

  #waitingOn(ticket: TicketState): { on: WaitingOn; position: number } {
    const now = Date.now();
    const { tenant, concurrent, attempt } = ticket.entry;
    const position = this.#room.has(attempt) ? this.#room.ahead(attempt) + 1 : 1;
    if (this.#config?.paused) return { on: "paused", position };
    if (this.#cards.health(now) !== "healthy") return { on: "no_healthy_card", position };
    return { on: this.#cards.holding(tenant) >= concurrent ? "tenant_cap" : "slots_busy", position };
  }

  #refuse(ticket: TicketState, refusal: PoolRefusal): void {
    this.#refused[refusal.reason] = (this.#refused[refusal.reason] ?? 0) + 1;
    this.#runs.unfollow(ticket);
    this.#settle(ticket, { kind: "refused", refusal });
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#succeed(run, false);
  }

  /** The last word to a ticket. */
  #settle(ticket: TicketState, reply: OfferReply): void {
    this.#over(ticket);
    this.#reply(ticket, reply);
  }

  #over(ticket: TicketState): void {
    this.#stopTimer(ticket);
    ticket.phase = "over";
    this.#room.leave(ticket.entry.attempt);
    this.#runOver(ticket.entry.attempt);
    if (this.#tickets.get(ticket.entry.attempt) === ticket) this.#tickets.delete(ticket.entry.attempt);
  }

  #runOver(attempt: string): void {
    this.#runsOver.add(attempt);
    for (const oldest of this.#runsOver) {
      if (this.#runsOver.size <= OVER_MAX) break;
      this.#runsOver.delete(oldest);
    }
  }

  #reply(ticket: TicketState, reply: OfferReply): void {
    ticket.reply = reply;
    ticket.wake?.();
    ticket.wake = null;
  }

  #stopTimer(ticket: TicketState): void {
    if (ticket.timer !== null) clearTimeout(ticket.timer);
    ticket.timer = null;
  }

  /** A few cards at a time, in turn. */
  #someCards(): string[] {
    const names = this.#cards.names();
    const from = names.length === 0 ? 0 : this.#asked % names.length;
    this.#asked = from + ASKED_AT_ONCE;
    return [...names.slice(from), ...names.slice(0, from)].slice(0, ASKED_AT_ONCE);
  }

  #learn(observed: Observed): void {
    this.#times = learn(this.#times, observed);
    const now = Date.now();
    if (now - this.#timesKeptAt < KEEP_TIMES_MS && now >= this.#timesKeptAt) return;
    this.#timesKeptAt = now;
    this.ctx.storage.kv.put("times", this.#times);
  }

  /** One timer for all: cards that may be tried again, and cards that have been silent while somebody waits. */
  #schedule(at: number): void {
    if (this.#timer !== null && this.#timer.at <= at) return;
    if (this.#timer !== null) clearTimeout(this.#timer.handle);
    const handle = setTimeout(
      () => {
        this.#timer = null;
        if (this.#room.length === 0) return;
        this.ctx.waitUntil(this.#ask(this.#someCards()));
        this.#pump();
      },
      Math.max(0, at - Date.now()),
    );
    this.#timer = { at, handle };
  }
}
