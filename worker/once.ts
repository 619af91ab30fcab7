/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the caller may repeat a request without anything being
 * made twice. Scope: tenant, method, path. Checked before anything that costs something.
 *
 * A client that sends a retry count (`x-stainless-retry-count`: OpenAI's and others') needs no key: its retry joins the
 * run that its first try abandoned, or gets the outcome of that run. A cacheable request is joined by its cache key
 * instead, unless it becomes a job.
 */
import { type RequestKind, JOIN_MS_MAX, type KeyOutcome } from "../durable-objects/idempotency-protocol.ts";
import type { Caller } from "./auth.ts";
import { BUFFERED_BYTES_MAX } from "./body/body.ts";
import type { Env } from "./env.ts";
import { sha256 } from "./fingerprint.ts";
import { invalid, type Refusal, refuse } from "./refusal.ts";
import { withTimeout } from "../durable-objects/timeout.ts";

const KEY = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;
const KEY_HEADER = "Idempotency-Key";
const MIB = 1024 * 1024;
const RETRY_AFTER_MS = 1_000;
/** Added to the time that the object itself may wait. */
const SLACK_MS = 10_000;
/** How long the outcome of a request whose caller disconnected is available to its retry. */
const RETRIED_MS = 120_000;
const RETRY_COUNT = "x-stainless-retry-count";
/** Response header: this is the answer of an earlier request. */
export const REPLAYED = "idempotent-replayed";

type Hold = {
  settle(made: KeyOutcome, keepMs: number): Promise<void>;
  drop(): Promise<void>;
  abandon(): Promise<void>;
  abandoned(): Promise<boolean>;
} & Disposable;

/** Held by the first request of a name, from its start until its outcome is reported. */
export class Once {
  readonly #name: string;
  readonly #hold: Hold;
  readonly #coming: RequestKind;
  readonly #gone: AbortSignal;
  readonly #settleByName: (made: KeyOutcome, keepMs: number) => Promise<void>;
  #told = false;
  #runs = false;
  /** A retry of the same content has arrived. */
  #retried = false;

  /** `gone`: aborted when the caller hangs up. */
  constructor(
    name: string,
    hold: Hold,
    coming: RequestKind,
    gone: AbortSignal,
    settleByName: (made: KeyOutcome, keepMs: number) => Promise<void>,
  ) {
    this.#settleByName = settleByName;
    this.#name = name;
    this.#hold = hold;
    this.#coming = coming;
    this.#gone = gone;
    gone.addEventListener("abort", () => void this.#abandon(), { once: true });
  }

  /** The key, in place of a fingerprint, under which the answer is stored. Null: no other request may ask for it. */
  get keepAs(): string | null {
    return this.#coming === "named" || this.#isLeft ? this.#name : null;
  }

  /** Whether the caller has left: its connection was closed, or its retry has arrived. */
  get #isLeft(): boolean {
    return this.#gone.aborted || this.#retried;
  }

  /**
   * Stores the outcome for later requests of the same name, for as long as the result is kept. For a request without a
   * key, only its retries get it, for RETRIED_MS.
   */
  async settle(made: KeyOutcome, keepMs: number): Promise<void> {
    // A job continues whether or not its caller is still connected.
    const retriedMs = this.#isLeft || made.kind === "job" || made.kind === "batch" ? RETRIED_MS : 0;
    const ms = this.#coming === "named" ? keepMs : retriedMs;
    // A restart of the object breaks the hold, but the outcome can still be stored by name.
    await this.#tell(() => withTimeout(this.#hold.settle(made, ms)).catch(() => this.#settleByName(made, ms)));
  }

  /** Frees the name without an outcome: the next request of the name runs. */
  async drop(): Promise<void> {
    await this.#tell(() => withTimeout(this.#hold.drop()));
  }

  /** Marks that a run has started. From here on the end of the run reports the outcome, whatever the caller is told. */
  markRunning(): void {
    this.#runs = true;
    if (this.#coming !== "named") void this.#heedRetries();
  }

  async #heedRetries(): Promise<void> {
    try {
      this.#retried = await this.#hold.abandoned();
    } catch (error) {
      // The object has restarted, so a retry counts as the first request of its name and runs.
      console.warn(JSON.stringify({ event: "retries_unheard", error: String(error) }));
    }
  }

  /** The caller was refused: frees the name, or abandons the run to whichever request comes next if one has started. */
  async refused(): Promise<void> {
    await (this.#runs ? this.#abandon() : this.drop());
  }

  /** The caller no longer waits: a later request may join the run. */
  async #abandon(): Promise<void> {
    if (this.#told) return;
    try {
      await withTimeout(this.#hold.abandon());
    } catch (error) {
      // Without this notice, a retry is refused with 409 until the run ends.
      console.warn(JSON.stringify({ event: "idempotency_report_failed", error: String(error) }));
    }
  }

  async #tell(say: () => Promise<void>): Promise<void> {
    if (this.#told) return;
    this.#told = true;
    try {
      await say();
    } catch (error) {
      // The name is free again, though the answer may be stored: a later request of the name may run once more.
      console.warn(JSON.stringify({ event: "idempotency_report_failed", error: String(error) }));
    }
    this.#hold[Symbol.dispose]();
  }
}

export interface Replay {
  replay: KeyOutcome;
  /** Frees the name because the outcome no longer exists. */
  forget(): Promise<void>;
}

export function isReplay(value: unknown): value is Replay {
  return typeof value === "object" && value !== null && "replay" in value;
}

/** What makes two requests of one name the same, besides their scope. `body` is null if it is too large to compare. */
export interface NamedRequest {
  method: string;
  path: string;
  query: string;
  contentType: string | null;
  body: Uint8Array<ArrayBuffer> | null;
}

/**
 * Returns null when the request has no name, and refuses a key with a body that is too large to compare. `joins`: a
 * retry without a key may join an earlier run.
 */
export async function onceOf(
  env: Env,
  caller: Caller,
  { headers, signal }: Request,
  named: NamedRequest,
  joins: boolean,
): Promise<Once | Replay | Refusal | null> {
  const key = headers.get("idempotency-key");
  const retries = headers.get(RETRY_COUNT);
  if (key === null && (retries === null || !joins || named.body === null)) return null;
  if (key !== null && !KEY.test(key)) return invalid(KEY_HEADER, "idempotency_key");
  if (named.body === null) return invalid(KEY_HEADER, "idempotency_body", { max_mib: BUFFERED_BYTES_MAX / MIB });
  const { method, path, query, contentType } = named;
  const body = await digest([query, contentType?.toLowerCase() ?? "", await sha256(named.body)]);
  const name =
    key === null
      ? await digest(["retry", caller.tenant, method, path, body])
      : await digest(["idempotency", caller.tenant, method, path, key]);
  const coming = key !== null ? "named" : isRetry(headers) ? "retry" : "first";
  const stub = env.IDEMPOTENCY.getByName(name);
  const reply = await withTimeout(stub.begin(body, coming), JOIN_MS_MAX + SLACK_MS);
  if (reply.kind === "mismatch") return refuse("idempotency_mismatch", { param: KEY_HEADER });
  if (reply.kind === "in_flight") return refuse("idempotency_in_flight", { retryAfterMs: RETRY_AFTER_MS });
  if (reply.kind === "made") return { replay: reply.made, forget: async () => withTimeout(stub.forget(body)) };
  return new Once(name, reply.hold, coming, signal, async (made, keepMs) => {
    await withTimeout(env.IDEMPOTENCY.getByName(name).settle(body, made, keepMs));
  });
}

/** Whether the client marked the request as a retry. */
export function isRetry(headers: Headers): boolean {
  return Number(headers.get(RETRY_COUNT) ?? 0) > 0;
}

function digest(parts: string[]): Promise<string> {
  return sha256(new TextEncoder().encode(JSON.stringify(parts)));
}
