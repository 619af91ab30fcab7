/**
 * Idempotency: one name that a tenant gave to a request (draft-ietf-httpapi-idempotency-key-header), one object each. The
 * first request holds the name while it is under way; what it came to is told to every later one with the same body, for
 * as long as its result is kept. A holder that goes without a word, or dies with the runtime, frees the name. Who says that
 * it is a retry, or comes when the holder's caller is gone, waits for the holder's end instead of a no.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import { wakeAt } from "./alarm.ts";
import { answered } from "./answer-protocol.ts";
import { type Coming, JOIN_MS_MAX, type Made, type NameReply, type NameRights } from "./idempotency-protocol.ts";

interface Settled {
  body: string;
  made: Made;
  until: number;
}

/** A request under way. */
interface Held {
  body: string;
  /** Its caller is gone. */
  abandoned: boolean;
  /** What it came to; null: nothing that may be told. */
  end: PromiseWithResolvers<Made | null>;
}

export class Idempotency extends DurableObject<object> {
  #settled: Settled | null;
  /** Not stored: with this object's end its holder's word is lost as well. */
  #held: Held | null = null;

  constructor(ctx: DurableObjectState, env: object) {
    super(ctx, env);
    this.#settled = ctx.storage.kv.get<Settled>("settled") ?? null;
  }

  /** `body`: the hash of what makes two requests the same. Waits for a request that it joins, for JOIN_MS_MAX at most. */
  async begin(body: string, coming: Coming): Promise<NameReply<Hold>> {
    const until = Date.now() + JOIN_MS_MAX;
    if (coming === "first") return { kind: "first", hold: this.#hold(body) };
    for (;;) {
      const settled = this.#settled !== null && this.#settled.until > Date.now() ? this.#settled : null;
      const before = settled?.body ?? this.#held?.body ?? null;
      if (before !== null && before !== body) return { kind: "mismatch" };
      if (settled !== null) return { kind: "made", made: settled.made };
      const held = this.#held;
      if (held === null) return { kind: "first", hold: this.#hold(body) };
      const joins = coming === "retry" || held.abandoned;
      if (!joins || Date.now() >= until) return { kind: "in_flight" };
      const made = await endOf(held, until - Date.now());
      if (made !== null) return { kind: "made", made };
    }
  }

  /** What was made is not to be had any more: the next request is the first again. */
  async forget(body: string): Promise<void> {
    if (this.#settled?.body !== body) return;
    this.#settled = null;
    await this.ctx.storage.deleteAll();
  }

  override async alarm(): Promise<void> {
    const until = this.#settled?.until ?? 0;
    // What was made meanwhile under the same name is kept for its own time.
    if (until > Date.now()) return wakeAt(this.ctx.storage, until);
    this.#settled = null;
    await this.ctx.storage.deleteAll();
  }

  // Private

  #hold(body: string): Hold {
    const end = Promise.withResolvers<Made | null>();
    const hold = new Hold({
      settle: (made, keepMs) => this.#settle(held, made, keepMs),
      drop: () => this.#drop(held, null),
      abandon: () => {
        held.abandoned = true;
      },
    });
    const held: Held = { body, abandoned: false, end };
    this.#held = held;
    return hold;
  }

  #settle(held: Held, made: Made, keepMs: number): void {
    const isLatest = this.#held === held;
    this.#drop(held, made);
    if (!isLatest || keepMs === 0) return;
    const until = Date.now() + keepMs;
    this.#settled = { body: held.body, made, until };
    this.ctx.storage.kv.put("settled", this.#settled);
    this.ctx.waitUntil(wakeAt(this.ctx.storage, until));
  }

  #drop(held: Held, made: Made | null): void {
    if (this.#held === held) this.#held = null;
    held.end.resolve(made);
  }
}

/** Null: nothing that may be told, or not in time. */
async function endOf(held: Held, ms: number): Promise<Made | null> {
  return answered(held.end.promise, ms).catch(() => null);
}

interface Rights {
  settle(made: Made, keepMs: number): void;
  drop(): void;
  abandon(): void;
}

export class Hold extends RpcTarget implements NameRights {
  readonly #rights: Rights;

  constructor(rights: Rights) {
    super();
    this.#rights = rights;
  }

  async settle(made: Made, keepMs: number): Promise<void> {
    this.#rights.settle(made, keepMs);
  }

  async drop(): Promise<void> {
    this.#rights.drop();
  }

  async abandon(): Promise<void> {
    this.#rights.abandon();
  }

  [Symbol.dispose](): void {
    this.#rights.drop();
  }
}
