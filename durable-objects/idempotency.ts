/**
 * Idempotency: one name that a tenant gave to a request (draft-ietf-httpapi-idempotency-key-header), one object each. The
 * first request holds the name while it is under way; what it came to is told to every later one with the same body, for
 * as long as its result is kept. A holder that goes without a word, or dies with the runtime, frees the name.
 */
import { DurableObject, RpcTarget } from "cloudflare:workers";
import type { Made, NameReply, NameRights } from "./idempotency-protocol.ts";

interface Settled {
  body: string;
  made: Made;
  until: number;
}

export class Idempotency extends DurableObject<object> {
  #settled: Settled | null;
  /** The body of the request under way; not stored: with this object's end its holder's word is lost as well. */
  #held: { body: string; hold: Hold } | null = null;

  constructor(ctx: DurableObjectState, env: object) {
    super(ctx, env);
    this.#settled = ctx.storage.kv.get<Settled>("settled") ?? null;
  }

  /** `body`: the hash of what makes two requests the same. */
  async begin(body: string): Promise<NameReply<Hold>> {
    const settled = this.#settled !== null && this.#settled.until > Date.now() ? this.#settled : null;
    const before = settled?.body ?? this.#held?.body ?? null;
    if (before !== null && before !== body) return { kind: "mismatch" };
    if (settled !== null) return { kind: "made", made: settled.made };
    if (this.#held !== null) return { kind: "in_flight" };
    const hold = new Hold({
      settle: (made, keepMs) => this.#settle(hold, body, made, keepMs),
      drop: () => this.#drop(hold),
    });
    this.#held = { body, hold };
    return { kind: "first", hold };
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
    if (until > Date.now()) return this.ctx.storage.setAlarm(until);
    this.#settled = null;
    await this.ctx.storage.deleteAll();
  }

  // Private

  #settle(hold: Hold, body: string, made: Made, keepMs: number): void {
    if (this.#held?.hold !== hold) return;
    this.#held = null;
    const until = Date.now() + keepMs;
    this.#settled = { body, made, until };
    this.ctx.storage.kv.put("settled", this.#settled);
    this.ctx.waitUntil(this.ctx.storage.setAlarm(until));
  }

  #drop(hold: Hold): void {
    if (this.#held?.hold === hold) this.#held = null;
  }
}

export class Hold extends RpcTarget implements NameRights {
  readonly #rights: { settle(made: Made, keepMs: number): void; drop(): void };

  constructor(rights: { settle(made: Made, keepMs: number): void; drop(): void }) {
    super();
    this.#rights = rights;
  }

  async settle(made: Made, keepMs: number): Promise<void> {
    this.#rights.settle(made, keepMs);
  }

  async drop(): Promise<void> {
    this.#rights.drop();
  }

  [Symbol.dispose](): void {
    this.#rights.drop();
  }
}
