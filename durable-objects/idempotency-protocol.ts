/** The RPC interface for requests with an `Idempotency-Key`, and for retries that can be recognized without one. */

/** How long a request waits for the run that it joins. */
export const JOIN_MS_MAX = 60_000;

/**
 * How a request relates to its name. `named`: the caller gave it an `Idempotency-Key`. `first` and `retry`: the name is
 * derived from the content. A `first` request never gets an earlier outcome; it can only be joined.
 */
export type RequestKind = "named" | "first" | "retry";

/** The outcome of the first request under the name. */
export type KeyOutcome =
  /** The response is stored in R2 under the first of these keys that exists. */
  | { kind: "answer"; keys: string[] }
  /** An origin's own error; these are small. */
  | { kind: "error"; status: number; contentType: string | null; body: string }
  | { kind: "job"; id: string }
  | { kind: "batch"; id: string }
  /** The tenant's webhook secret of this generation; it is derived, not stored. */
  | { kind: "secret"; generation: number }
  /** An uploaded file. */
  | { kind: "file"; id: string }
  /** The delivery that the replay of a webhook created. */
  | { kind: "delivery"; id: string };

export type NameReply<Hold> =
  /** This request is first. Until `hold` reports an outcome or is disposed, others get `in_flight` or wait. */
  | { kind: "first"; hold: Hold }
  | { kind: "in_flight" }
  /** The name was used with another body. */
  | { kind: "mismatch" }
  | { kind: "made"; made: KeyOutcome };

/**
 * The first request's hold on its name. With `keepMs` 0 only requests that have joined get the outcome. Disposing it
 * without an outcome frees the name.
 */
export interface HoldRpc {
  settle(made: KeyOutcome, keepMs: number): Promise<void>;
  drop(): Promise<void>;
  /** The caller has left, but the request continues: new requests under the name join it. */
  abandon(): Promise<void>;
  /** Resolves to true as soon as the request is abandoned, or to false when it ends before that. */
  abandoned(): Promise<boolean>;
}
