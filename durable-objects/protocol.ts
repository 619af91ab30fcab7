/**
 * The words that the Worker and the objects exchange: the only file of this folder that `worker/` imports.
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
export type Priority = "high" | "normal" | "low";
export type Abandon = "finish" | "cancel";

/** Why a request waits; the same words in jobs, metrics and pages. */
export type WaitingOn = "slots_busy" | "tenant_cap" | "no_healthy_card" | "paused";

// ---------------------------------------------------------------------------------------------------------- Card

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

// ---------------------------------------------------------------------------------------------------------- Pool

export interface PoolCard {
  card: string;
  weight: number;
}

/** Everything a Pool knows of what people configured. A lower version never replaces a higher one. */
export interface PoolConfig {
  version: number;
  service: string;
  paused: boolean;
  queue: { max: number; timeoutMs: number };
  cards: PoolCard[];
}

/** One request at the door of a pool. */
export interface Entry {
  attempt: string;
  request: string;
  tenant: string;
  /** Share of the slots under contention; at least 1. */
  weight: number;
  /** Slots that the tenant may hold in this service. */
  concurrent: number;
  /** Requests that the tenant may have in this line. */
  waiting: number;
  priority: Priority;
  /** When the request first asked; keeps its place over retries and restarts of the Pool. */
  arrivedAt: number;
  /** The caller's own deadline for the first byte. */
  deadlineAt: number | null;
  /** Same fingerprint, one run; `null` runs alone. */
  fingerprint: string | null;
  /** The client address, hashed, where the tenant has a limit for each; else absent. */
  address?: string;
  /** That limit: requests from one address that may be in this line or on its cards. */
  perAddress?: number;
  /** Cards that have failed this request already. */
  avoid: string[];
  /** This request was let in before (the Pool restarted, or a leader was lost): room limits do not apply again. */
  again: boolean;
  /** A job's: no bound of the room and none of its times is for it, and it waits for cards that are out. */
  job: boolean;
  version: number;
}

export type PoolRefusal =
  /** `of`: whose requests are too many, the tenant's or the client address's. */
  | { reason: "concurrency"; of: "tenant" | "address"; waiting: number; max: number; retryAfterMs: number }
  | { reason: "queue_full"; length: number; max: number; retryAfterMs: number }
  | { reason: "queue_timeout"; waitedMs: number; retryAfterMs: number }
  | { reason: "deadline_unmeetable"; estimateMs: number; retryAfterMs: number }
  | { reason: "no_healthy_card"; cause: string | null; retryAfterMs: number }
  | { reason: "paused"; retryAfterMs: number };

/** How a leader's run ended, told to those who asked for the same. */
export type Finish =
  /** The answer is in the store. */
  | { kind: "stored" }
  /** A complete answer that is not kept (an origin's 4xx), small enough to hand on. */
  | { kind: "answer"; status: number; contentType: string | null; body: string }
  /** It ran, but others cannot have its answer: everybody runs alone. */
  | { kind: "alone" }
  /** It failed; the next one starts it again, once. */
  | { kind: "failed"; reason: string };

export type OfferReply =
  /** `others`: more wait for the next slot; `slotsLeft`: those that the tenant may still hold here beside this one. */
  | { kind: "offer"; card: string; pressed: boolean; others: boolean; slotsLeft: number }
  /** The same request ran for somebody else. */
  | { kind: "told"; finish: Finish }
  | { kind: "refused"; refusal: PoolRefusal }
  /** The Pool's configuration is older than the asker's. */
  | { kind: "behind"; version: number }
  /** Still waiting; ask again on the same ticket. */
  | { kind: "waiting"; on: WaitingOn; position: number };

/** What the Worker saw of a run; the Pool learns its estimates from it. */
export interface Observed {
  firstByteMs: number;
  totalMs: number;
}

/** A place in line; disposing it leaves the line. */
export interface TicketRights {
  /** Waits for an offer, at most some seconds a call. */
  offer(): Promise<OfferReply>;
  /** The Card said yes. */
  claimed(number: number): Promise<void>;
  /** The Card said no (`no` as in ClaimNo): back to the line, same place. */
  declined(card: string, no: ClaimNo["no"]): Promise<void>;
  /** The try failed and the request may try elsewhere: back to the line with the same place. False: no more retries. */
  retry(attempt: string, avoid: string[]): Promise<boolean>;
  /** The run is over. */
  finished(finish: Finish, observed: Observed | null): Promise<void>;
  leave(): Promise<void>;
}

/** What a Card may say to a Pool. */
export interface PoolRights {
  /** True while somebody waits, or did a moment ago: then news is wanted at once. */
  report(report: CardReport): Promise<boolean>;
}

/** What a Tenant may ask of a Pool. */
export interface PresenceRights {
  present(requests: string[]): Promise<Presence>;
}

/** Which of some requests a Pool has in line or on a card; `sure` when it has been up long enough to know all. */
export interface Presence {
  sure: boolean;
  requests: Record<string, { state: "queued" | "running"; on: WaitingOn | null; position: number | null }>;
}

/** What a Pool expects for one request. */
export interface Outlook {
  /** Null: it runs, or ran. `startMs`: until its start, ms; null when nothing is known. */
  waiting: { on: WaitingOn; position: number | null; startMs: number | null } | null;
  /** What a run takes, and how long it takes until any of the slots is free again, ms. */
  serviceMs: number | null;
  slotMs: number | null;
}

/** What a Pool may ask of a Card. */
export interface CardRights {
  /** `listener`: the service whose Pool wants news at once from now on. */
  report(listener?: string): Promise<CardReport>;
}

/** What a Pool may tell a Tenant. */
export interface TenantRights {
  record(
    id: string,
    state: RunState,
    status: number | null,
    results: string[],
    charge: Charge,
    spent: Spent,
  ): Promise<void>;
}

export interface PoolStatus {
  service: string;
  version: number;
  paused: boolean;
  queued: number;
  oldestWaitMs: number;
  /** How many wait for what. */
  waitingFor: Partial<Record<WaitingOn, number>>;
  reports: CardReport[];
  /** Learned mean time of a run, ms; null before the first. */
  serviceMs: number | null;
  refused: Record<string, number>;
  admitted: number;
}

// -------------------------------------------------------------------------------------------------------- Tenant

export interface RateLimit {
  requestsPerMinute: number;
  burst: number;
}

/** What is left of a rate. */
export interface RateLeft {
  /** Requests that pass at once when none has for long. */
  limit: number;
  /** Those that pass now. */
  remaining: number;
  /** Time until all of `limit` pass again. */
  resetMs: number;
}

/** `follows`: the same is under way for the tenant, so that only a run of its own would be charged (`pay`). */
export type RateReply = ({ ok: true; follows?: boolean } & RateLeft) | ({ ok: false; retryAfterMs: number } & RateLeft);

/** What a quota counts. */
export interface Counts {
  /** Images or sounds. */
  results: number;
  /** Thousandths of a cost unit; whole ones, so that no sum of them drifts. */
  costMilli: number;
}

/** The same in a month; null is no limit. */
export type Quota = { [Of in keyof Counts]: number | null };

/** One request at the Tenant's door; the counts are those that it comes to if all goes well. */
export interface Admission extends Counts {
  id: string;
  clientId: string | null;
  service: string;
  /** Id of the caller's key. */
  key: string;
  /** What makes it the same as another's; null: it runs by itself. */
  fingerprint: string | null;
  /** The answer of another's run has the same price. */
  hits: boolean;
}

export interface TenantLimits extends RateLimit {
  /** The service has a rate of its own: its tokens are not the tenant's others'. */
  ownRate: boolean;
  quota: Quota;
}

/** `over`: which part of the quota has no room for the request. */
export type AdmitReply =
  | RateReply
  | ({ ok: false; over: "results" | "cost"; quota: number; retryAfterMs: number } & RateLeft);

/**
 * What a request costs its tenant in the end: all of it, its token and its price (others did the work, and that has a
 * price too), its token alone, or nothing.
 */
export type Charge = "all" | "price" | "token" | "nothing";

export type RunState = "queued" | "running" | "succeeded" | "failed" | "canceled";

/** What became of a request that took a ticket; kept for a day. */
export interface RequestRecord {
  id: string;
  clientId: string | null;
  service: string;
  state: RunState;
  status: number | null;
  results: string[];
  at: number;
}

/** The same as of now, with what it waits for while it is queued. */
export interface RequestState extends RequestRecord {
  on: WaitingOn | null;
  /** 1: next. */
  position: number | null;
}

/** What a request took by its end, as whoever ended it saw it. */
export interface Spent {
  /** Time that slots were held for it, ms: from each claim to the end of the origin's answer, failed tries included. */
  gpuMs: number;
  /** Of the answer, as far as it was handed to the caller. */
  bytes: number;
  /** Images or sounds that were made; null: not seen, so as many as it was admitted for. */
  results: number | null;
  /** Why it got no answer; null: it got one. */
  reason: string | null;
  /** As it was admitted: a Tenant that restarted at once may have forgotten. Null where only the Tenant knows. */
  admitted: (Pick<Admission, "clientId" | "service" | "key" | "costMilli"> & { at: number }) | null;
}

export const NOTHING_SPENT: Spent = { gpuMs: 0, bytes: 0, results: 0, reason: null, admitted: null };

/** What usage is counted by: a day in UTC as `YYYY-MM-DD`, a service, the id of a key. */
export interface UsageOf {
  day: string;
  service: string;
  key: string;
}

/** What was asked for, and what it took. All of it adds up. */
export interface Use {
  requests: number;
  /** Answered from the store. */
  hits: number;
  results: number;
  bytes: number;
  gpuMs: number;
  /** Thousandths of a cost unit. */
  costMilli: number;
  /** Requests that got no answer, by reason. */
  refusals: Record<string, number>;
}

export type UsageRow = UsageOf & Use;

export interface UsageQuery {
  /** First and last day. */
  from: string;
  to: string;
  /** What rows are told apart by; the rest is added up, and empty in them. */
  by: (keyof UsageOf)[];
  /** Rows after this one, in their order. */
  after: UsageOf | null;
  limit: number;
}

export interface UsagePage {
  rows: UsageRow[];
  /** Of all rows, on this page or not. */
  totals: Use;
}
