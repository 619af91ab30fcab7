/** The RPC interface between Job, Worker and Courier about webhooks. Methods are idempotent, as in card-protocol.ts. */

/** Which API's format the body has. */
export type Dialect = "native" | "replicate" | "fal";

/** What an event is about. */
export interface Subject {
  kind: "job" | "batch";
  id: string;
}

/** An event, and the address to deliver it to. */
export interface Notice {
  tenant: string;
  subject: Subject;
  /** `job.succeeded` and the like. A subject has at most one event of each type. */
  type: string;
  /** When it happened, ms since the epoch. */
  at: number;
  url: string;
  dialect: Dialect;
}

/** One sending of an event. The Sender reads the subject's state and signs it anew each time. */
export interface SendRequest extends Notice {
  /** `webhook-id`: the same in every sending of an event. */
  event: string;
  /** Generations of the tenant's secret that sign, newest first. */
  generations: number[];
}

/** The outcome of a sending. */
export interface SendResult {
  /** Null: no response. */
  status: number | null;
  /** Our description; null if there was a response, whatever its status. */
  error: string | null;
  /** The receiver's Retry-After. */
  retryAfterMs: number | null;
  /** False: there is nothing left to send. */
  again: boolean;
}

export const DELIVERY_STATES = ["pending", "delivered", "failed", "disabled"] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

export interface DeliveryTry {
  number: number;
  at: number;
  ms: number;
  status: number | null;
  error: string | null;
}

export interface Delivery extends Notice {
  id: string;
  event: string;
  state: DeliveryState;
  tries: DeliveryTry[];
  createdAt: number;
  /** Set while pending. */
  nextAt: number | null;
  endedAt: number | null;
  /** Its place in the order of creation. */
  place: number;
}

export interface DeliveryQuery {
  state: DeliveryState | null;
  /** Only deliveries created before this place. */
  before: number | null;
  limit: number;
}

/** The Courier methods that a Job calls. */
export interface CourierRpc {
  enqueue(notice: Notice): Promise<void>;
}

/** The Worker methods that the Courier calls. */
export interface SenderRpc {
  send(letter: SendRequest): Promise<SendResult>;
}
