/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that its caller may send again without making
 * anything twice. Scope: tenant, method, path. Checked before everything else that costs anything.
 *
 * A client that counts its retries (`x-stainless-retry-count`: OpenAI's and others') need not name them: a retry joins the
 * run that its caller let go of, or has what it came to. What a cache key tells apart is joined by that.
 */
import { type Coming, JOIN_MS_MAX, type Made } from "../durable-objects/idempotency-protocol.ts";
import type { Caller } from "./auth.ts";
import type { Env } from "./env.ts";
import { sha256 } from "./fingerprint.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { answered } from "../durable-objects/answer-protocol.ts";

const KEY = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;
const RETRY_AFTER_MS = 1_000;
/** Beyond the time that an object may wait itself. */
const SLACK_MS = 10_000;
/** What a request came to whose caller was gone is told to a retry for so long. */
const RETRIED_MS = 120_000;
const RETRY_COUNT = "x-stainless-retry-count";
/** The header that says that an answer is that of an earlier request. */
export const REPLAYED = "idempotent-replayed";

type Hold = {
  settle(made: Made, keepMs: number): Promise<void>;
  drop(): Promise<void>;
  abandon(): Promise<void>;
} & Disposable;

/** The first request of its name. */
export class Once {
  readonly #name: string;
  readonly #hold: Hold;
  readonly #coming: Coming;
  readonly #gone: AbortSignal;
  #told = false;
  #runs = false;

  /** `gone`: aborted when its caller hangs up. */
  constructor(name: string, hold: Hold, coming: Coming, gone: AbortSignal) {
    this.#name = name;
    this.#hold = hold;
    this.#coming = coming;
    this.#gone = gone;
    gone.addEventListener("abort", () => void this.#abandon(), { once: true });
  }

  /** Stands where a fingerprint does: under it the answer is kept; null: nobody may ask for it. */
  get keepAs(): string | null {
    return this.#coming === "named" || this.#gone.aborted ? this.#name : null;
  }

  /** What came of it is told to later ones of its name, for as long as its result is kept; to unnamed retries for a while. */
  async settle(made: Made, keepMs: number): Promise<void> {
    // A job goes on by itself: its caller is gone or not.
    const retriedMs = this.#gone.aborted || made.kind === "job" || made.kind === "batch" ? RETRIED_MS : 0;
    await this.#tell(() => this.#hold.settle(made, this.#coming === "named" ? keepMs : retriedMs));
  }

  /** Nothing came of it that may be told again: the next one runs. */
  async drop(): Promise<void> {
    await this.#tell(() => this.#hold.drop());
  }

  /** Its run says what it came to, whatever its caller is told. */
  runs(): void {
    this.#runs = true;
  }

  /** Its caller was refused: nothing came of it, or its run goes on for whoever comes again. */
  async refused(): Promise<void> {
    await (this.#runs ? this.#abandon() : this.drop());
  }

  /** Its caller waits for it no more: who comes again may. */
  async #abandon(): Promise<void> {
    if (this.#told) return;
    try {
      await answered(this.#hold.abandon());
    } catch (error) {
      // A retry is told to come back then.
      console.warn(JSON.stringify({ event: "idempotency_untold", error: String(error) }));
    }
  }

  async #tell(say: () => Promise<void>): Promise<void> {
    if (this.#told) return;
    this.#told = true;
    try {
      await answered(say());
    } catch (error) {
      // The name is free again, and the answer in the store: a later request of it may run once more.
      console.warn(JSON.stringify({ event: "idempotency_untold", error: String(error) }));
    }
    this.#hold[Symbol.dispose]();
  }
}

export interface Replay {
  replay: Made;
  /** It is not to be had any more: the name is free again. */
  forget(): Promise<void>;
}

export function isReplay(value: unknown): value is Replay {
  return typeof value === "object" && value !== null && "replay" in value;
}

/** What makes two requests of one name the same, beside their scope. Null: the body is too large to be compared. */
export interface Named {
  method: string;
  path: string;
  query: string;
  contentType: string | null;
  body: Uint8Array<ArrayBuffer> | null;
}

/** Null: the request has no name. `body` null with a name: it is too large for one. `joins`: it may be joined without one. */
export async function onceOf(
  env: Env,
  caller: Caller,
  { headers, signal }: Request,
  named: Named,
  joins: boolean,
): Promise<Once | Replay | Refusal | null> {
  const key = headers.get("idempotency-key");
  const retries = headers.get(RETRY_COUNT);
  if (key === null && (retries === null || !joins || named.body === null)) return null;
  if (key !== null && !KEY.test(key)) return invalidKey("must be 1 to 255 printable characters");
  if (named.body === null) return invalidKey("goes with bodies of at most 8 MiB");
  const { method, path, query, contentType } = named;
  const body = await digest([query, contentType?.toLowerCase() ?? "", await sha256(named.body)]);
  const name =
    key === null
      ? await digest(["retry", caller.tenant, method, path, body])
      : await digest(["idempotency", caller.tenant, method, path, key]);
  const coming = key !== null ? "named" : isRetry(headers) ? "retry" : "first";
  const stub = env.IDEMPOTENCY.getByName(name);
  const reply = await answered(stub.begin(body, coming), JOIN_MS_MAX + SLACK_MS);
  if (reply.kind === "mismatch") return refuse("idempotency_mismatch", { param: "Idempotency-Key" });
  if (reply.kind === "in_flight") return refuse("idempotency_in_flight", { retryAfterMs: RETRY_AFTER_MS });
  if (reply.kind === "made") return { replay: reply.made, forget: async () => answered(stub.forget(body)) };
  return new Once(name, reply.hold, coming, signal);
}

/** Its client says so. */
export function isRetry(headers: Headers): boolean {
  return Number(headers.get(RETRY_COUNT) ?? 0) > 0;
}

function invalidKey(detail: string): Refusal {
  return refuse("invalid_field", { param: "Idempotency-Key", facts: { detail } });
}

function digest(parts: string[]): Promise<string> {
  return sha256(new TextEncoder().encode(JSON.stringify(parts)));
}
