/** The RPC interface of a Tenant, for Worker, Jobs and Pools: rate, quota, records, usage. Methods are idempotent. */
import type { WaitingOn } from "./pool-protocol.ts";

export const DAY_MS = 86_400_000;

/** The UTC day that a time falls on, as usage is counted: YYYY-MM-DD. */
export const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

export interface RateLimit {
  requestsPerMinute: number;
  burst: number;
}

/** The state of a rate limit. */
export interface RateLeft {
  /** Requests that pass at once after a long pause: the burst. */
  limit: number;
  /** Requests that pass now. */
  remaining: number;
  /** Time until `limit` requests pass again, ms. */
  resetMs: number;
}

/** `follows`: the same request of the tenant is in progress, so this one pays only if it runs itself (`pay`). */
export type RateReply = ({ ok: true; follows?: boolean } & RateLeft) | ({ ok: false; retryAfterMs: number } & RateLeft);

/** What a quota counts. */
export interface Counts {
  /** Images or sounds. */
  results: number;
  /** Thousandths of a cost unit; an integer, so that sums are exact. */
  costMilli: number;
}

/** Limits per month; null is no limit. */
export type Quota = { [Of in keyof Counts]: number | null };

/** One request for admission. The counts are what it will be charged if it succeeds. */
export interface Admission extends Counts {
  id: string;
  clientId: string | null;
  /** For a job, our id of the request that submitted it, under which the job can also be looked up; null otherwise. */
  requestId?: string | null;
  service: string;
  /** Id of the caller's key. */
  key: string;
  /** Identical requests have the same fingerprint; null: runs alone. */
  fingerprint: string | null;
  /** Whether the response of another request's run costs the same. */
  hits: boolean;
}

export interface TenantLimits extends RateLimit {
  /** The service has its own rate limit, separate from the tenant's. */
  ownRate: boolean;
  quota: Quota;
}

/** `over`: the part of the quota that is exceeded. `follows`: the same request is in progress and may be followed. */
export type AdmitReply =
  | RateReply
  | ({ ok: false; over: "results" | "cost"; quota: number; retryAfterMs: number; follows?: boolean } & RateLeft);

/**
 * What a request finally costs its tenant: everything; its token and its price (for the response of another run, which
 * may have a price); its token only; or nothing.
 */
export type Charge = "all" | "price" | "token" | "nothing";

export type RunState = "queued" | "running" | "succeeded" | "failed" | "canceled";

/** The outcome of a request that took a ticket; kept for a day. */
export interface RequestRecord {
  id: string;
  clientId: string | null;
  service: string;
  state: RunState;
  status: number | null;
  results: string[];
  at: number;
}

/** The current state, including what the request waits for while queued. */
export interface RequestState extends RequestRecord {
  on: WaitingOn | null;
  /** 1 is next. */
  position: number | null;
}

/** What a request consumed, reported when it ends. */
export interface Spent {
  /** Time that it held slots, ms: from each claim to the end of the origin's response, failed attempts included. */
  gpuMs: number;
  /** Bytes of the response that were passed to the caller. */
  bytes: number;
  /** Images or sounds that were made; null: unknown, so the number it was admitted for counts. */
  results: number | null;
  /** Why it got no response; null: it got one. */
  reason: string | null;
  /** Its admission, in case the Tenant lost it in a restart; null if only the Tenant knows it. */
  admitted: (Pick<Admission, "clientId" | "service" | "key" | "costMilli"> & { at: number }) | null;
}

export const NOTHING_SPENT: Spent = { gpuMs: 0, bytes: 0, results: 0, reason: null, admitted: null };

/** The key of a usage row: a UTC day as `YYYY-MM-DD`, a service, and the id of a key. */
export interface UsageOf {
  day: string;
  service: string;
  key: string;
}

/** Usage counts; all of them are additive. */
export interface Use {
  requests: number;
  /** Requests answered from the store. */
  hits: number;
  results: number;
  bytes: number;
  gpuMs: number;
  /** Thousandths of a cost unit. */
  costMilli: number;
  /** Requests without a response, by reason. */
  refusals: Record<string, number>;
}

export type UsageRow = UsageOf & Use;

export interface UsageQuery {
  /** First and last day, inclusive. */
  from: string;
  to: string;
  /** Columns to group by; the others are summed over and returned as empty strings. */
  by: (keyof UsageOf)[];
  /** Only rows after this one, in sort order. */
  after: UsageOf | null;
  limit: number;
}

export interface UsagePage {
  rows: UsageRow[];
  /** Over all rows, not only this page. */
  totals: Use;
}

/** The Tenant methods that a Pool or a Job calls. */
export interface TenantRpc {
  record(
    id: string,
    state: RunState,
    status: number | null,
    results: string[],
    charge: Charge,
    spent: Spent,
  ): Promise<void>;
}
