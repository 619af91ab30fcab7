/**
 * What the Worker and the Pools say to a Card, and hear of it.
 *
 * Every method can be called twice with the same attempt id and means it once (the platform may repeat a call whose
 * reply was lost). Times are milliseconds of the epoch (`...At`) or durations (`...Ms`).
 */

/** A lease lives this long without a renewal. */
export const LEASE_MS = 40_000;
/** How often a holder renews: four chances in one lease life. */
export const LEASE_RENEW_MS = 10_000;

export type CardState = "active" | "draining" | "disabled";
export type Transport = "direct" | "tunnel" | "vpc";
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

/** Everything a Card knows of what people configured. A lower version never replaces a higher one. */
export interface CardConfig {
  version: number;
  card: string;
  slots: number;
  state: CardState;
  listings: Listing[];
}

/** One try of one request at one card. */
export interface Attempt {
  attempt: string;
  request: string;
  tenant: string;
  service: string;
  fingerprint: string | null;
  /** As in Entry. */
  address?: string;
  /** The Pool has too many cards out: this one is to be tried although it is out on suspicion. */
  pressed?: boolean;
}

/** Why a Card says no to a claim. */
export type ClaimNo =
  /** All slots are leased or draining. */
  | { no: "full" }
  /** The card is draining or disabled. */
  | { no: "withdrawn" }
  /** Too many failures: closed until `untilAt`, or its one half-open trial is under way. */
  | { no: "ejected"; untilAt: number }
  /** This attempt held a slot once and let it go. */
  | { no: "ended" }
  /** The Card does not know that it is listed in this service. */
  | { no: "unlisted" };

export interface Claimed {
  number: number;
  expiresAt: number;
  origin: string;
  transport: Transport;
}

/** How a run ended, as its holder saw it. */
export interface Ending {
  /** The slot is free: the answer was read to its end, or nothing was ever sent, or the call was cancelled for good. */
  clean: boolean;
  /** What it says of the origin's health; `null` when it says nothing (a caller hung up, nothing was sent). */
  health: "ok" | "failed" | null;
  /** The refusal reason behind a failure, for the ledger. */
  reason: string | null;
}

export type ReleaseReply = { released: true } | { released: false; why: "unknown" | "stale" | "late" };
export type RenewReply = { renewed: true; expiresAt: number } | { renewed: false; why: "unknown" | "stale" };

/** The right to run one request on one card; disposing it unreleased counts as an unclean end. */
export interface LeaseRights {
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
  /** As in Entry. */
  address?: string;
  state: "leased" | "draining";
  claimedAt: number;
}

/** Whether a card takes work for a service. */
export interface Gate {
  /** `half_open`: one request may try it; `trial`: that one is under way. */
  state: "closed" | "open" | "half_open" | "trial";
  /** When an open gate becomes half-open. */
  untilAt: number;
  /** The last failure's reason while not closed. */
  reason: string | null;
  /** Closed, but its last runs failed: so many may run at once. Without it, as many as it has slots. */
  most?: number;
  /** Open, and a trial has failed since it opened; else it is out on suspicion, and may be pressed for a trial. */
  proven?: boolean;
}

/** A Card's whole truth, told to every pool that lists it. Later means a higher (incarnation, seq). */
export interface CardReport {
  card: string;
  incarnation: number;
  seq: number;
  version: number;
  slots: number;
  state: CardState;
  /** Highest lease number ever given: a claim at or below it that is not held has ended. */
  lastNumber: number;
  held: Held[];
  gates: Record<string, Gate>;
}

export interface Heartbeat {
  gpuMemoryRatio: number | null;
  gpuUtilization: number | null;
  running: number | null;
}

/** Always: claims = done + failed + orphaned + the leases held now. */
export interface CardCounters {
  /** Requests that got a slot. */
  claims: number;
  /** Runs that ended with an answer. */
  done: number;
  /** Runs that ended without one. */
  failed: number;
  /** Runs whose holder vanished, or was reaped, and did not come back. */
  orphaned: number;
  /** Leases that nobody renewed in time. */
  reaped: number;
  /** Claims refused. */
  refused: number;
  /** Draining slots that became free. */
  drained: number;
  /** Releases that came after the lease was reaped. */
  late: number;
  /** Releases and renewals with a number that is not the attempt's. */
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

/** What a Pool may ask of a Card. */
export interface CardRights {
  /** `listener`: the service whose Pool wants news at once from now on. */
  report(listener?: string): Promise<CardReport>;
}
