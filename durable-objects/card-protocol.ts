/**
 * The RPC interface of a Card, as used by the Worker and the Pools.
 *
 * Every method is idempotent by attempt id, because the platform may repeat a call whose reply was lost. Times are
 * milliseconds since the epoch (`...At`) or durations (`...Ms`).
 */

/** How long a lease lives without renewal. */
export const LEASE_MS = 40_000;
/** How often a holder renews: four chances per lease. */
export const LEASE_RENEW_MS = 10_000;

export type CardState = "active" | "draining" | "disabled";
export type Transport = "direct" | "tunnel" | "vpc";
/** The Cloudflare Access service token of the deployment. */
export interface AccessToken {
  id: string;
  secret: string;
}

/** Adds the Access service token, but only for the transport `tunnel`. */
export function addAccess(headers: Headers, transport: Transport, access: AccessToken | null): void {
  if (transport !== "tunnel" || access === null) return;
  headers.set("cf-access-client-id", access.id);
  headers.set("cf-access-client-secret", access.secret);
}

export type Abandon = "finish" | "cancel";

/** How one service reaches one card. */
export interface Listing {
  service: string;
  origin: string;
  transport: Transport;
  breaker: { maxFails: number; failTimeoutMs: number };
  drain: { probe: { path: string; busy: string } | null; maxMs: number };
  abandon: Abandon;
}

/** The Card's copy of the configuration. A lower version never replaces a higher one. */
export interface CardConfig {
  version: number;
  card: string;
  slots: number;
  state: CardState;
  listings: Listing[];
}

/** One attempt of a request at one card. */
export interface Attempt {
  attempt: string;
  request: string;
  tenant: string;
  service: string;
  fingerprint: string | null;
  /** See `Entry.address`. */
  address?: string;
  /** The Pool has too many cards out and requests a trial of this one, although it is out on suspicion. */
  pressed?: boolean;
}

/** Why a Card refuses a claim. */
export type ClaimNo =
  /** All slots are leased or draining. */
  | { no: "full" }
  /** The card is draining or disabled. */
  | { no: "withdrawn" }
  /** The breaker is open until `untilAt`, or its one trial is running. */
  | { no: "ejected"; untilAt: number }
  /** The lease of this attempt has ended, or the attempt was given up. */
  | { no: "ended" }
  /** The Card's configuration does not list it in this service. */
  | { no: "unlisted" };

export interface Claimed {
  number: number;
  expiresAt: number;
  origin: string;
  transport: Transport;
}

/** How a run ended, as its holder saw it. */
export interface Ending {
  /** The GPU is done: the response was read to its end, nothing was sent, or the origin stops when canceled. */
  clean: boolean;
  /** The verdict on the origin's health; null if there is none (the caller hung up, or nothing was sent). */
  health: "ok" | "failed" | null;
  /** The refusal reason behind a failure, shown while the breaker is not closed. */
  reason: string | null;
}

export type ReleaseReply = { released: true } | { released: false; why: "unknown" | "stale" | "late" };
export type RenewReply = { renewed: true; expiresAt: number } | { renewed: false; why: "unknown" | "stale" };

/** The right to run one request on one card. Disposing it without a release counts as an unclean end. */
export interface LeaseRpc {
  renew(): Promise<RenewReply>;
  release(ending: Ending): Promise<ReleaseReply>;
}

export interface Held {
  number: number;
  attempt: string;
  request: string;
  tenant: string;
  service: string;
  fingerprint: string | null;
  /** See `Entry.address`. */
  address?: string;
  state: "leased" | "draining";
  claimedAt: number;
}

/** Whether a card takes work for a service: the state of its circuit breaker. */
export interface BreakerState {
  /** `half_open`: one request may try the card. `trial`: that request is running. */
  state: "closed" | "open" | "half_open" | "trial";
  /** When an open breaker becomes half-open. */
  untilAt: number;
  /** The reason of the last failure, while not closed. */
  reason: string | null;
  /** Closed, but recent runs failed: the limit on concurrent runs. Absent: as many as there are slots. */
  most?: number;
  /** Open, and a trial has failed since it opened. Otherwise it is a suspicion, and the Pool may press for a trial. */
  proven?: boolean;
}

/** The full state of a Card, sent to every Pool that lists it. Reports are ordered by (incarnation, seq). */
export interface CardReport {
  card: string;
  incarnation: number;
  seq: number;
  version: number;
  slots: number;
  state: CardState;
  /** The highest lease number ever given: a lease numbered at or below it that is not held has ended. */
  lastNumber: number;
  held: Held[];
  gates: Record<string, BreakerState>;
}

export interface Heartbeat {
  gpuMemoryRatio: number | null;
  gpuUtilization: number | null;
  running: number | null;
}

/** Invariant: claims = done + failed + orphaned + runs in progress (leased, not draining). */
export interface CardCounters {
  /** Requests that got a slot. */
  claims: number;
  /** Runs that ended with an answer. */
  done: number;
  /** Runs that ended without one. */
  failed: number;
  /** Runs whose holder vanished or stopped renewing, and did not come back. */
  orphaned: number;
  /** Leases that expired without renewal. */
  reaped: number;
  /** Claims refused. */
  refused: number;
  /** Draining slots that became free. */
  drained: number;
  /** Releases that arrived after the lease had ended. */
  late: number;
  /** Renewals, and other releases, that do not match a current lease. */
  stale: number;
}

export interface CardStatus {
  report: CardReport;
  heartbeat: (Heartbeat & { at: number }) | null;
  counters: CardCounters;
  leases: LeaseRecord[];
}

export interface LeaseRecord extends Held {
  card: string;
  renewedAt: number;
  expiresAt: number;
  drainingSince: number | null;
  drainUntil: number | null;
}

/** The Card methods that a Pool calls. */
export interface CardRpc {
  /** `listener`: the service whose Pool wants changes pushed at once from now on. */
  report(listener?: string): Promise<CardReport>;
}
