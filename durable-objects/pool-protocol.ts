/** What the Worker, the Cards and the Tenants say to a Pool, and hear of it. As in card-protocol.ts once is as good as twice. */
import type { CardReport, ClaimNo } from "./card-protocol.ts";

export type Priority = "high" | "normal" | "low";

/** Why a request waits; the same words in jobs, metrics and pages. */
export type WaitingOn = "slots_busy" | "tenant_cap" | "no_healthy_card" | "paused";

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
