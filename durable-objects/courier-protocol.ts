/**
 * The words that Job, Worker and Courier exchange about webhooks. As in card-protocol.ts: every method can be called twice and
 * means it once.
 */

/** Whose shape the body has. */
export type Dialect = "native" | "replicate" | "fal";

/** What an event is about. */
export interface Subject {
  kind: "job" | "batch";
  id: string;
}

/** Something happened, and this address wants to hear of it. */
export interface Notice {
  tenant: string;
  subject: Subject;
  /** `job.succeeded` and the like. A subject has an event of a type once. */
  type: string;
  /** When it happened, ms. */
  at: number;
  url: string;
  dialect: Dialect;
}

/** One sending, as the Sender makes it: what is told of the subject is read and signed anew each time. */
export interface Letter extends Notice {
  /** `webhook-id`: the same in every sending of an event. */
  event: string;
  /** Of the tenant's secret, the latest first. */
  generations: number[];
}

/** What came of a sending. */
export interface Sent {
  /** Null: no answer. */
  status: number | null;
  /** In our words; null for an answer, whatever it was. */
  error: string | null;
  /** The receiver wants to be left alone for so long. */
  retryAfterMs: number | null;
  /** False: there is nothing to send any more. */
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
  /** While it is pending. */
  nextAt: number | null;
  endedAt: number | null;
  /** Its place in the order of creation. */
  place: number;
}

export interface DeliveryQuery {
  state: DeliveryState | null;
  /** Those made before this place. */
  before: number | null;
  limit: number;
}

/** What a Job tells the Courier. */
export interface CourierRights {
  enqueue(notice: Notice): Promise<void>;
}

/** What the Courier asks of the Worker. */
export interface SenderRights {
  send(letter: Letter): Promise<Sent>;
}
