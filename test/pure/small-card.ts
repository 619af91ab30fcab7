/**
 * A Card without the platform: the real card book, the behavior of a Notifier (notifier.ts) with messages, and the GPU
 * behind it, which alone knows how much runs on it.
 */
import { CardBook } from "../../durable-objects/card-book.ts";
import type { Health } from "../../durable-objects/breaker.ts";
import type { Attempt, CardConfig, CardReport, ClaimNo, Ending } from "../../durable-objects/card-protocol.ts";
import type { Lease } from "../../durable-objects/slots.ts";
import type { FakeClock } from "./fake-clock.ts";
import type { Post } from "./post.ts";

export const SERVICE = "portrait";
export const OTHER = "speech";
const DRAIN_MS = 60_000;
export const LIMITS = { maxFails: 3, failTimeoutMs: 30_000 };
const LATER_MS = 2_000;
const BACKOFF_MS = 400;
/** The alarm's work is done this often. */
const LOOK_MS = 1_000;

export function countsOfNothing() {
  return { claims: 0, done: 0, failed: 0, orphaned: 0, reaped: 0, refused: 0, drained: 0, late: 0, stale: 0 };
}

export function cardConfig(card: string, slots: number, services = [SERVICE, OTHER]): CardConfig {
  const shared = { origin: "", transport: "direct" as const, abandon: "finish" as const };
  const drain = { probe: null, maxMs: DRAIN_MS };
  const listings = services.map((service) => ({ service, ...shared, breaker: { ...LIMITS }, drain }));
  return { version: 1, card, slots, state: "active", listings };
}

export class SmallCard {
  readonly name: string;
  readonly slots: number;
  readonly book: CardBook;
  /** Requests at work on the GPU: the ground truth, independent of all counts. */
  readonly working = new Set<string>();
  /** The most requests that ever worked at once. */
  highest = 0;
  /** Delivers a report to the Pool. Returns whether the Pool wants further news at once. */
  readonly #hear: (report: CardReport) => boolean;
  readonly #clock: FakeClock;
  readonly #post: Post;
  readonly #stubs = new Map<number, number>();
  #seq = 0;
  #eager = true;
  #news: "none" | "later" | "now" = "none";
  #sending = false;
  #hurry: (() => void) | null = null;

  constructor(name: string, slots: number, clock: FakeClock, post: Post, hear: (report: CardReport) => boolean) {
    const health = new Map<string, Health>();
    const store = {
      health: () => new Map(health),
      keepHealth: (service: string, one: Health) => health.set(service, one),
    };
    this.book = new CardBook(cardConfig(name, slots), [], countsOfNothing(), store);
    this.name = name;
    this.slots = slots;
    this.#clock = clock;
    this.#post = post;
    this.#hear = hear;
    this.#look();
    this.tell("now");
  }

  work(attempt: string): void {
    this.working.add(attempt);
    this.highest = Math.max(this.highest, this.working.size);
  }

  /** Tells the Pool of changes like the Card: an end at once, a claim later, other services' slots as wanted. */
  keep(changed: Lease[]): void {
    if (changed.length === 0) return;
    const own = changed.filter(({ service }) => service === SERVICE);
    const hasEnded = own.some(({ state }) => state !== "leased");
    this.tell(hasEnded ? "now" : own.length > 0 ? "later" : "as wanted");
  }

  /** A granted claim comes with a stub of the lease; the lease's last stub is its holder. */
  claim(asked: Attempt): { number: number } | ClaimNo {
    const now = this.#clock.now();
    this.keep(this.book.reap(now));
    const outcome = this.book.claim(asked, now);
    if ("no" in outcome) return outcome;
    const { number } = outcome.lease;
    this.#stubs.set(number, (this.#stubs.get(number) ?? 0) + 1);
    this.keep(outcome.changed);
    return { number };
  }

  release(number: number, attempt: string, ending: Ending): void {
    this.keep(this.book.release(number, attempt, ending, this.#clock.now()).changed);
  }

  /** Disposes a stub of a lease. */
  drop(number: number): void {
    const left = (this.#stubs.get(number) ?? 1) - 1;
    this.#stubs.set(number, left);
    if (left === 0) this.keep(this.book.vanish(number, this.#clock.now()));
  }

  dispose(outcome: { number: number } | ClaimNo): void {
    if (!("no" in outcome)) this.drop(outcome.number);
  }

  report(): CardReport {
    this.keep(this.book.reap(this.#clock.now()));
    return this.book.report(1, ++this.#seq, this.#clock.now());
  }

  /** The Pool asked on its own. */
  listen(): void {
    this.#eager = true;
    if (this.#news !== "none") this.#hurry?.();
  }

  /** The card's agent reports the running count, twice. */
  beat(): void {
    for (let reports = 0; reports < 2; reports++) this.keep(this.book.applyReport(this.working.size, null));
  }

  tell(how: "now" | "later" | "as wanted"): void {
    const isUrgent = how === "now" || (how === "as wanted" && this.#eager);
    if (isUrgent || this.#news === "none") this.#news = isUrgent ? "now" : "later";
    if (this.#sending) return;
    if (this.#hurry !== null) {
      if (isUrgent) this.#hurry();
    } else if (this.#news === "now") this.#send();
    else this.#pause(LATER_MS);
  }

  #pause(ms: number): void {
    const go = (): void => {
      stop();
      this.#hurry = null;
      if (this.#news !== "none") this.#send();
    };
    const stop = this.#clock.after(ms, go);
    this.#hurry = go;
  }

  #send(): void {
    this.#news = "none";
    this.#sending = true;
    const report = this.book.report(1, ++this.#seq, this.#clock.now());
    const next = (): void => {
      if (this.#news === "now") this.#send();
      else if (this.#news === "later") this.#pause(LATER_MS);
    };
    this.#post.send({
      stream: `${this.name} tells`,
      arrive: () => {
        this.#eager = this.#hear(report);
        this.#sending = false;
        next();
      },
      lose: () => {
        this.#sending = false;
        this.#news = "now";
        this.#pause(BACKOFF_MS);
      },
    });
  }

  #look(): void {
    this.keep(this.book.reap(this.#clock.now()));
    this.#clock.after(LOOK_MS, () => this.#look());
  }
}
