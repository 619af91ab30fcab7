/**
 * The path of a request through the Worker (dispatch.ts, tries.ts, card-run.ts), with messages instead of calls:
 * enter, ask for an offer, claim, run, release, retry elsewhere, report how it ended.
 */
import type { Ending } from "../../durable-objects/card-protocol.ts";
import type { Entry, Finish, OfferReply } from "../../durable-objects/pool-protocol.ts";
import type { TicketState } from "../../durable-objects/ticket-state.ts";
import type { SmallPool } from "./pool-in-small.ts";
import { SERVICE, type SmallCard } from "./small-card.ts";
import { CLEAN, UNCLEAN } from "./slots-model.ts";

const TRIES_MAX = 2;
const CLAIM_TRIES_MAX = 3;
const RENEW_MS = 10_000;

/** How a run ends: with an answer; broken, seen or unseen by the card; without a verdict; its holder vanishes. */
export type How = "ok" | "failed" | "cut" | "quiet" | "unsent" | "vanish";
const ENDINGS: Record<Exclude<How, "vanish">, Ending> = {
  ok: CLEAN,
  failed: { clean: true, health: "failed", reason: "origin_status" },
  cut: { clean: false, health: "failed", reason: "origin_reset" },
  quiet: UNCLEAN,
  unsent: { clean: true, health: null, reason: null },
};

export class SmallCaller {
  readonly pool: SmallPool;
  readonly name: string;
  entry: Entry;
  /** The outcome of the request; exactly one word in the end. */
  readonly words: string[] = [];
  run: { card: SmallCard; number: number } | null = null;
  ticket: TicketState | null = null;
  isGone = false;
  #session = 0;
  #attempts = 0;
  #asking = false;
  #asks = 0;
  #again: () => void = () => undefined;
  #tried: string[] = [];
  #stopRenewing: () => void = () => undefined;

  constructor(pool: SmallPool, name: string, entry: Entry) {
    this.pool = pool;
    this.name = name;
    this.entry = entry;
    this.ask();
  }

  get #says(): string {
    return `${this.name} says ${this.#session}`;
  }

  /** Sends a message to the ticket; a lost one breaks the ticket. */
  #say(word: (ticket: TicketState) => void, broken: () => void, twice = true): void {
    const session = this.#session;
    this.pool.post.send({
      stream: this.#says,
      twice,
      arrive: () => {
        if (session === this.#session && this.ticket !== null) word(this.ticket);
      },
      broken,
      lose: () => this.#drop(broken),
    });
  }

  /** The ticket's stub is gone, with everything in flight on it; the Pool notices later. */
  #drop(then: () => void = () => undefined): void {
    const { ticket, pool } = this;
    const cut = this.pool.post.cut(this.#says);
    this.#session++;
    this.ticket = null;
    if (ticket !== null)
      pool.post.send({
        stream: `${this.name} gone ${this.#session}`,
        arrive: () => {
          if (--ticket.holders === 0) pool.at(ticket, (desk) => desk.left(ticket));
        },
      });
    then();
    for (const message of cut) message.broken?.();
  }

  /** A caller that lost its Pool enters again with the same place. */
  ask(): void {
    if (this.words.length > 0) return;
    this.#asking = true;
    if (this.isGone) return this.leave();
    const asks = ++this.#asks;
    const again = (): void => {
      if (asks !== this.#asks || !this.#asking) return;
      this.entry = { ...this.entry, again: true };
      this.ask();
    };
    this.#again = again;
    const { pool } = this;
    const session = this.#session;
    if (this.ticket === null) {
      pool.post.send({
        stream: this.#says,
        arrive: () => {
          this.ticket = pool.enter(this.entry);
          this.ticket.holders++;
        },
        lose: () => this.#drop(),
      });
    }
    const hear = (ticket: TicketState): void => {
      const { reply } = ticket;
      if (reply === null) return;
      pool.post.send({
        stream: `${this.name} hears ${session}`,
        arrive: () => {
          if (session === this.#session) this.#heard(reply);
        },
        lose: () => {
          if (session === this.#session) this.#drop(again);
        },
      });
    };
    const asked = (ticket: TicketState): void => {
      pool.at(ticket, (desk) => desk.asked(ticket));
      if (ticket.reply !== null) hear(ticket);
      else ticket.waiters.add(() => hear(ticket));
    };
    this.#say(asked, again, false);
  }

  /** The Pool restarted: every earlier ticket is broken. */
  broken(): void {
    this.#drop(this.#again);
  }

  #heard(reply: OfferReply): void {
    if (this.words.length > 0) return;
    this.#asking = false;
    if (reply.kind === "offer") return this.#claim(reply.card, reply.pressed, 1);
    if (reply.kind === "told") return this.#end(`told ${reply.finish.kind}`);
    if (reply.kind === "refused") return this.#end(reply.refusal.reason);
    throw new Error(`unexpected: ${reply.kind}`);
  }

  #claim(cardName: string, pressed: boolean, tries: number): void {
    // Until its first claim a request ends with its caller.
    if (this.isGone && tries === 1) {
      this.#asking = true;
      return this.leave();
    }
    const { pool, entry } = this;
    const card = pool.cards.find((one) => one.name === cardName);
    if (card === undefined) throw new Error("an offer of no card");
    const { attempt, request, tenant, fingerprint, address } = entry;
    const from = address === undefined ? {} : { address };
    let heard = false;
    const lost = (): void => {
      if (heard) return;
      heard = true;
      if (tries < CLAIM_TRIES_MAX) return this.#claim(cardName, pressed, tries + 1);
      pool.post.send({
        stream: `${this.name} claims`,
        twice: true,
        arrive: () => card.keep(card.book.unclaim(attempt)),
      });
      this.#say(
        (ticket) => pool.at(ticket, (desk) => desk.declined(ticket, cardName, "full")),
        () => undefined,
      );
      this.#retry(this.entry.avoid);
    };
    pool.post.send({
      stream: `${this.name} claims`,
      twice: true,
      arrive: () => {
        const asked = { attempt, request, tenant, service: SERVICE, fingerprint, ...from, pressed };
        const outcome = card.claim(asked);
        const isFirst = !heard;
        const take = (): void => {
          if (heard) return card.dispose(outcome);
          heard = true;
          if ("no" in outcome) this.#no(cardName, outcome.no);
          else this.#start(card, outcome.number);
        };
        if (!isFirst) return card.dispose(outcome);
        pool.post.send({
          stream: `${this.name} granted`,
          arrive: take,
          lose: () => {
            lost();
            pool.post.send({ stream: `${this.name} vanishes`, arrive: () => card.dispose(outcome) });
          },
        });
      },
      lose: lost,
    });
  }

  #no(card: string, no: "full" | "withdrawn" | "ejected" | "ended" | "unlisted"): void {
    if (no === "ended") return this.#retry(this.entry.avoid);
    this.#say(
      (ticket) => this.pool.at(ticket, (desk) => desk.declined(ticket, card, no)),
      () => undefined,
    );
    this.ask();
  }

  #start(card: SmallCard, number: number): void {
    this.#say(
      (ticket) => this.pool.at(ticket, (desk) => desk.claimed(ticket, number)),
      () => undefined,
    );
    this.run = { card, number };
    if (this.isGone) return this.end("unsent");
    card.work(this.entry.attempt);
    this.pool.started(this, card);
    const renew = (): void => {
      const { reply, changed } = card.book.renew(number, this.entry.attempt, this.pool.clock.now());
      card.keep(changed);
      if (!reply.renewed) throw new Error("a living holder's lease was lost");
      this.#stopRenewing = this.pool.clock.after(RENEW_MS, renew);
    };
    this.#stopRenewing = this.pool.clock.after(RENEW_MS, renew);
  }

  end(how: How): void {
    const { run, pool } = this;
    if (run === null) return;
    const { card, number } = run;
    const { attempt } = this.entry;
    this.run = null;
    this.#stopRenewing();
    if (how === "ok" || how === "failed") card.working.delete(attempt);
    pool.ended(this, card, how);
    if (how === "vanish") {
      pool.post.send({ stream: `${this.name} vanishes`, arrive: () => card.drop(number) });
      this.#end("vanished");
      return;
    }
    const released = (): void => {
      card.release(number, attempt, ENDINGS[how]);
      if (!isSettled) card.drop(number);
      const isRepeated = isSettled;
      isSettled = true;
      if (isRepeated || (how !== "failed" && how !== "cut")) return;
      this.#tried.push(card.name);
      if (this.#tried.length < TRIES_MAX && !this.isGone) this.#retry([...this.#tried]);
      else this.#finish({ kind: "failed", reason: "origin_reset" });
    };
    let isSettled = false;
    const message = { stream: `${this.name} releases`, twice: true, arrive: released };
    // Repeated until it arrives.
    pool.post.send({ ...message, lose: () => pool.post.send(message) });
    if (how === "ok") this.#finish({ kind: this.pool.answers });
    if (how === "quiet" || how === "unsent") this.#finish({ kind: "failed", reason: "client_gone" });
  }

  #retry(avoid: string[]): void {
    const attempt = `${this.name}.${++this.#attempts}`;
    const heard = (allowed: boolean): void => {
      if (!allowed) return this.#finish({ kind: "failed", reason: "origin_reset" });
      this.entry = { ...this.entry, attempt, avoid, again: true };
      this.ask();
    };
    if (this.ticket === null) return heard(true);
    let isHeard = false;
    this.#say(
      (ticket) => {
        const allowed = this.pool.retry(ticket, attempt, avoid);
        if (!isHeard) heard(allowed);
        isHeard = true;
      },
      () => heard(true),
    );
  }

  #finish(finish: Finish): void {
    const { attempt } = this.entry;
    const orphan = (): void => {
      const arrive = (): void => this.pool.orphanFinished(attempt, finish);
      this.pool.post.send({ stream: `${this.name} tells`, arrive });
    };
    if (this.ticket === null) orphan();
    else
      this.#say((ticket) => {
        this.pool.at(ticket, (desk) => desk.finished(ticket, finish, null));
      }, orphan);
    this.#end(finish.kind === "failed" ? "failed" : "served");
  }

  /** The caller hangs up. A run that has begun goes on. */
  leave(): void {
    this.isGone = true;
    if (!this.#asking || this.words.length > 0) return;
    this.#say(
      (ticket) => this.pool.at(ticket, (desk) => desk.left(ticket)),
      () => undefined,
    );
    this.#end("left");
  }

  #end(word: string): void {
    this.words.push(word);
    // The stub is disposed after the final outcome.
    const session = this.#session;
    this.pool.post.send({
      stream: this.#says,
      arrive: () => {
        if (session === this.#session) this.#drop();
      },
    });
  }
}
