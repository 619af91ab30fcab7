/** What the Worker and the Jobs say to a Tenant, and hear of it: rate, quota, records and usage. Said twice is said once. */
import type { WaitingOn } from "./pool-protocol.ts";

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
  /** Our id of the request that handed a job in, which is asked after by it as well; null: it is no job. */
  requestId?: string | null;
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

/** `over`: which part of the quota has no room for the request; `follows`: the same is under way, and has its place. */
export type AdmitReply =
  | RateReply
  | ({ ok: false; over: "results" | "cost"; quota: number; retryAfterMs: number; follows?: boolean } & RateLeft);

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
