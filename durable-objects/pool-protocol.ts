/** The RPC interface of a Pool, for Worker, Cards and Tenants. Methods are idempotent, as in card-protocol.ts. */
import type { CardReport, ClaimNo } from "./card-protocol.ts";

export type Priority = "high" | "normal" | "low";

/** Why a request waits; jobs, metrics and pages use the same words. */
export type WaitingOn = "slots_busy" | "tenant_cap" | "no_healthy_card" | "paused";

export interface PoolCard {
  card: string;
  weight: number;
  /** The version of the Card's configuration; absent in copies stored by an older version. */
  version?: number;
}

/** The Pool's copy of the configuration. A lower version never replaces a higher one. */
export interface PoolConfig {
  version: number;
  service: string;
  paused: boolean;
  queue: { max: number; timeoutMs: number };
  cards: PoolCard[];
}

/** A request to a Pool for a slot. */
export interface Entry {
  attempt: string;
  request: string;
  tenant: string;
  /** The tenant's share of contended slots; at least 1. */
  weight: number;
  /** Slots that the tenant may hold in this service. */
  concurrent: number;
  /** Requests that the tenant may have waiting here. */
  waiting: number;
  priority: Priority;
  /** When the request first arrived; keeps its place across retries and restarts of the Pool. */
  arrivedAt: number;
  /** The caller's own deadline for the first byte. */
  deadlineAt: number | null;
  /** Requests with the same fingerprint share one run; null: runs alone. */
  fingerprint: string | null;
  /** The hashed client address, if the tenant has a limit per address; otherwise absent. */
  address?: string;
  /** That limit: requests of one address that may be queued or on cards of this service. */
  perAddress?: number;
  /** Cards that have already failed this request. */
  avoid: string[];
  /** It was admitted before (the Pool restarted, or a leader was lost): admission limits do not apply again. */
  again: boolean;
  /** The request belongs to a job: queue limits and timeouts do not apply, and it waits even if no card is healthy. */
  job: boolean;
  version: number;
}

export type PoolRefusal =
  /** `of`: who has too many requests, the tenant or the client address. */
  | { reason: "concurrency"; of: "tenant" | "address"; waiting: number; max: number; retryAfterMs: number }
  | { reason: "queue_full"; length: number; max: number; retryAfterMs: number }
  | { reason: "queue_timeout"; waitedMs: number; retryAfterMs: number }
  | { reason: "deadline_unmeetable"; estimateMs: number; retryAfterMs: number }
  | { reason: "no_healthy_card"; cause: string | null; retryAfterMs: number }
  | { reason: "paused"; retryAfterMs: number };

/** How a run ended, as told to requests with the same fingerprint. */
export type Finish =
  /** The response is in the store. */
  | { kind: "stored" }
  /** A complete response that is not stored (an origin's own error) and is small enough to pass on. */
  | { kind: "answer"; status: number; contentType: string | null; body: string }
  /** It ran, but its response cannot be shared: each request runs alone. */
  | { kind: "alone" }
  /** It failed; one of the others runs it again, once. */
  | { kind: "failed"; reason: string };

export type OfferReply =
  /** `others`: more requests wait for a slot. `slotsLeft`: slots that the tenant may hold here beyond this one. */
  | { kind: "offer"; card: string; pressed: boolean; others: boolean; slotsLeft: number }
  /** The outcome of another request's run. */
  | { kind: "told"; finish: Finish }
  | { kind: "refused"; refusal: PoolRefusal }
  /** The Pool's configuration is older than the caller's. */
  | { kind: "behind"; version: number }
  /** Still waiting; call again on the same ticket. */
  | { kind: "waiting"; on: WaitingOn | null; position: number };

/** The times of a run as the Worker saw them, from which the Pool learns its estimates. */
export interface Observed {
  firstByteMs: number;
  totalMs: number;
}

/** A ticket: a place in the queue. Disposing it leaves the queue. */
export interface TicketRpc {
  /** Waits for an offer, for a limited time per call. */
  offer(): Promise<OfferReply>;
  /** The Card granted the claim. */
  claimed(number: number): Promise<void>;
  /** The Card refused the claim (see ClaimNo); requeues the request at its old place. */
  declined(card: string, no: ClaimNo["no"]): Promise<void>;
  /** The attempt failed; requeues the request at its old place. Returns false if no retry is allowed. */
  retry(attempt: string, avoid: string[]): Promise<boolean>;
  /** The run is over. */
  finished(finish: Finish, observed: Observed | null): Promise<void>;
  leave(): Promise<void>;
}

/** The Pool methods that a Card calls. */
export interface PoolRpc {
  /** Returns true while anybody waits or did a moment ago: further reports are wanted at once. */
  report(report: CardReport): Promise<boolean>;
}

/** The Pool methods that a Tenant calls. */
export interface PresenceRpc {
  present(requests: string[]): Promise<Presence>;
}

/** Which of some requests are queued or running here. `sure`: the Pool has been up long enough to know them all. */
export interface Presence {
  sure: boolean;
  requests: Record<string, { state: "queued" | "running"; on: WaitingOn | null; position: number | null }>;
}

/** A Pool's estimate for one request. */
export interface Outlook {
  /**
   * Null: it runs or has run. `on` is null while it is only starting. `startMs`: estimated time until it starts, ms;
   * null if unknown.
   */
  waiting: { on: WaitingOn | null; position: number | null; startMs: number | null } | null;
  /** Mean time of a run, and the mean interval at which one of the usable slots becomes free, ms. */
  serviceMs: number | null;
  slotMs: number | null;
  /** Mean time from start to first byte, if it is recent enough to base a refusal on; otherwise null. */
  firstByteMs: number | null;
}

export interface PoolStatus {
  service: string;
  version: number;
  paused: boolean;
  queued: number;
  oldestWaitMs: number;
  /** The number of waiting requests by reason. */
  waitingFor: Partial<Record<WaitingOn, number>>;
  reports: CardReport[];
  /** Mean time of a run, ms; null before the first. */
  serviceMs: number | null;
  refused: Record<string, number>;
  admitted: number;
}
