/** The words about a request that its caller names with an `Idempotency-Key`, or that says that it is a retry. */

/** A request that joins the one under way waits for its end so long at the most. */
export const JOIN_MS_MAX = 60_000;

/**
 * What a request is to its name: `named` has it from its caller; `first` and `retry` have it from what they ask for: such
 * a first one is never told of an earlier one, it only can be joined.
 */
export type Coming = "named" | "first" | "retry";

/** What the first request of that name came to. */
export type Made =
  /** Its answer lies in R2 under the first of these keys that is there. */
  | { kind: "answer"; keys: string[] }
  /** An origin's own error, which is small. */
  | { kind: "error"; status: number; contentType: string | null; body: string }
  | { kind: "job"; id: string }
  | { kind: "batch"; id: string };

export type NameReply<Hold> =
  /** The first: until `hold` has said what came of it, or is gone, others of that name are told to wait. */
  | { kind: "first"; hold: Hold }
  | { kind: "in_flight" }
  /** The name was used with another body. */
  | { kind: "mismatch" }
  | { kind: "made"; made: Made };

/** The first request's hold on its name; `keepMs` 0: only those who have joined are told. Disposing it without a word lets the next one be the first. */
export interface NameRights {
  settle(made: Made, keepMs: number): Promise<void>;
  drop(): Promise<void>;
  /** Its caller is gone, and it goes on: who comes now by the same name joins it. */
  abandon(): Promise<void>;
}
