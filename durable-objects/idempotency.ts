/**
 * Idempotency: one object per name that a tenant gave to a request (draft-ietf-httpapi-idempotency-key-header). The
 * first request holds the name while it runs. Later requests with the same body get its outcome, for as long as its
 * result is kept. A holder that is disposed without an outcome, or dies with the runtime, frees the name. A recognized
 * retry, or a request that arrives after the holder's caller has left, waits for the outcome instead of being refused.
 * A recognized retry also tells the holder that its caller has left, which the connection itself may not show.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import { wakeAt } from "./alarm.ts";
import { withTimeout } from "./timeout.ts";
import {
  type RequestKind,
  JOIN_MS_MAX,
  type KeyOutcome,
  type NameReply,
  type HoldRpc,
} from "./idempotency-protocol.ts";

interface Settled {
  body: string;
  made: KeyOutcome;
  until: number;
}

/** A request in progress. */
interface Held {
  body: string;
  /** Resolves to true when the caller has left, to false when the request ends before that. */
  abandonment: PromiseWithResolvers<boolean>;
  abandoned: boolean;
  /** The outcome; null: none that can be shared. */
  end: PromiseWithResolvers<KeyOutcome | null>;
}

export class Idempotency extends DurableObject<object> {
  #settled: Settled | null;
  /** Not stored: if this object restarts, the holder's RPC stub is lost as well. */
  #held: Held | null = null;

  constructor(ctx: DurableObjectState, env: object) {
    super(ctx, env);
    this.#settled = ctx.storage.kv.get<Settled>("settled") ?? null;
  }

  /** `body`: the hash of what makes two requests the same. Waits at most JOIN_MS_MAX for a request that it joins. */
  async begin(body: string, coming: RequestKind): Promise<NameReply<Hold>> {
    const until = Date.now() + JOIN_MS_MAX;
    if (coming === "first") return { kind: "first", hold: this.#hold(body) };
    for (;;) {
      const settled = this.#settled !== null && this.#settled.until > Date.now() ? this.#settled : null;
      const before = settled?.body ?? this.#held?.body ?? null;
      if (before !== null && before !== body) return { kind: "mismatch" };
      if (settled !== null) return { kind: "made", made: settled.made };
      const held = this.#held;
      if (held === null) return { kind: "first", hold: this.#hold(body) };
      if (coming === "retry") abandon(held);
      if (!held.abandoned || Date.now() >= until) return { kind: "in_flight" };
      const made = await endOf(held, until - Date.now());
      if (made !== null) return { kind: "made", made };
    }
  }

  /** Called when the outcome no longer exists: the next request is first again. */
  async forget(body: string): Promise<void> {
    if (this.#settled?.body !== body) return;
    this.#settled = null;
    await this.ctx.storage.deleteAll();
  }

  /** Keeps the outcome of a run whose hold was lost in a restart. Ignored if another request has taken the name. */
  async settle(body: string, made: KeyOutcome, keepMs: number): Promise<void> {
    const isTaken = this.#held !== null || (this.#settled !== null && this.#settled.until > Date.now());
    if (!isTaken && keepMs > 0) this.#keep(body, made, keepMs);
  }

  override async alarm(): Promise<void> {
    const until = this.#settled?.until ?? 0;
    // A later outcome under the same name has its own expiry.
    if (until > Date.now()) return wakeAt(this.ctx.storage, until);
    this.#settled = null;
    await this.ctx.storage.deleteAll();
  }

  // Private

  #hold(body: string): Hold {
    const end = Promise.withResolvers<KeyOutcome | null>();
    const hold = new Hold({
      settle: (made, keepMs) => this.#settle(held, made, keepMs),
      drop: () => this.#drop(held, null),
      abandon: () => abandon(held),
      abandoned: () => held.abandonment.promise,
    });
    const held: Held = { body, abandonment: Promise.withResolvers<boolean>(), abandoned: false, end };
    this.#held = held;
    return hold;
  }

  #settle(held: Held, made: KeyOutcome, keepMs: number): void {
    const isLatest = this.#held === held;
    this.#drop(held, made);
    if (!isLatest || keepMs === 0) return;
    this.#keep(held.body, made, keepMs);
  }

  #keep(body: string, made: KeyOutcome, keepMs: number): void {
    const until = Date.now() + keepMs;
    this.#settled = { body, made, until };
    this.ctx.storage.kv.put("settled", this.#settled);
    this.ctx.waitUntil(wakeAt(this.ctx.storage, until));
  }

  #drop(held: Held, made: KeyOutcome | null): void {
    if (this.#held === held) this.#held = null;
    held.end.resolve(made);
    held.abandonment.resolve(false);
  }
}

function abandon(held: Held): void {
  held.abandoned = true;
  held.abandonment.resolve(true);
}

/** The outcome; null if there is none to share, or none in time. */
async function endOf(held: Held, ms: number): Promise<KeyOutcome | null> {
  return withTimeout(held.end.promise, ms).catch(() => null);
}

interface Rights {
  settle(made: KeyOutcome, keepMs: number): void;
  drop(): void;
  abandon(): void;
  abandoned(): Promise<boolean>;
}

export class Hold extends RpcTarget implements HoldRpc {
  readonly #rights: Rights;

  constructor(rights: Rights) {
    super();
    this.#rights = rights;
  }

  async settle(made: KeyOutcome, keepMs: number): Promise<void> {
    this.#rights.settle(made, keepMs);
  }

  async drop(): Promise<void> {
    this.#rights.drop();
  }

  async abandon(): Promise<void> {
    this.#rights.abandon();
  }

  async abandoned(): Promise<boolean> {
    return this.#rights.abandoned();
  }

  [Symbol.dispose](): void {
    this.#rights.drop();
  }
}
