/** A tenant's deliveries as rows: what is to be sent, what was tried, and which addresses are disabled. */
import type {
  Delivery,
  DeliveryQuery,
  DeliveryState,
  DeliveryTry,
  Dialect,
  Notice,
  Subject,
} from "./courier-protocol.ts";

/** How long a delivery is kept, and how long an address stays disabled after its last 410, ms. */
const KEPT_MS = 30 * 86_400_000;
/** Deliveries kept per tenant. Beyond that the oldest are removed early; they were given up before (NEWER_MAX). */
const KEPT_MAX = 100_000;
/** A pending delivery is given up after this many newer ones: its receiver is slower than the events. */
const NEWER_MAX = 50_000;
const OUTRUN = `given up: ${NEWER_MAX.toLocaleString("en")} newer deliveries were queued after it`;
/** Maximum rows of each kind that one sweep gives up or removes. */
const SWEPT_AT_ONCE = 1_000;

type Row = {
  place: number;
  id: string;
  event: string;
  tenant: string;
  kind: Subject["kind"];
  subject: string;
  type: string;
  at: number;
  url: string;
  dialect: Dialect;
  state: DeliveryState;
  tries: string;
  created_at: number;
  next_at: number | null;
  ended_at: number | null;
};

export class Deliveries {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS deliveries (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, tenant TEXT NOT NULL,
        kind TEXT NOT NULL, subject TEXT NOT NULL, type TEXT NOT NULL, at INTEGER NOT NULL, url TEXT NOT NULL,
        dialect TEXT NOT NULL, state TEXT NOT NULL, tries TEXT NOT NULL, created_at INTEGER NOT NULL, next_at INTEGER,
        ended_at INTEGER
      );
      CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event);
      CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (next_at) WHERE state = 'pending';
      CREATE INDEX IF NOT EXISTS deliveries_state ON deliveries (state, place);
      CREATE INDEX IF NOT EXISTS deliveries_ended ON deliveries (ended_at);
      CREATE TABLE IF NOT EXISTS disabled (url TEXT PRIMARY KEY, at INTEGER NOT NULL);
    `);
  }

  /** The latest delivery of an event; null if there is none. */
  latestOf(event: string): Delivery | null {
    return this.#one("SELECT * FROM deliveries WHERE event = ? ORDER BY place DESC LIMIT 1", event);
  }

  get(id: string): Delivery | null {
    return this.#one("SELECT * FROM deliveries WHERE id = ?", id);
  }

  /** Adds a delivery, either due at once or already ended (`disabled`). */
  add({ tenant, subject, type, at, url, dialect }: Notice, event: string, state: DeliveryState, now: number): Delivery {
    const id = `dlv_${crypto.randomUUID().replaceAll("-", "")}`;
    const times = state === "pending" ? [now, null] : [null, now];
    const values = [id, event, tenant, subject.kind, subject.id, type, at, url, dialect, state, now, ...times];
    this.#sql.exec(
      `INSERT INTO deliveries
       (id, event, tenant, kind, subject, type, at, url, dialect, state, tries, created_at, next_at, ended_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', ?, ?, ?)`,
      ...values,
    );
    return this.get(id) as Delivery;
  }

  update({ id, state, tries, nextAt, endedAt }: Delivery): void {
    const query = "UPDATE deliveries SET state = ?, tries = ?, next_at = ?, ended_at = ? WHERE id = ?";
    this.#sql.exec(query, state, JSON.stringify(tries), nextAt, endedAt, id);
  }

  /** Deliveries that are due, longest overdue first. */
  due(now: number, limit: number): Delivery[] {
    const query = "SELECT * FROM deliveries WHERE state = 'pending' AND next_at <= ? ORDER BY next_at LIMIT ?";
    return [...this.#sql.exec<Row>(query, now, limit)].map(deliveryOf);
  }

  /** When the next delivery becomes due, without those due already; null if none does. */
  nextDue(now: number): number | null {
    const query = "SELECT min(next_at) AS at FROM deliveries WHERE state = 'pending' AND next_at > ?";
    return this.#sql.exec<{ at: number | null }>(query, now).one().at;
  }

  /** Newest first. */
  list({ state, before, limit }: DeliveryQuery): Delivery[] {
    const [where, values] = state === null ? ["", []] : ["state = ? AND", [state]];
    const query = `SELECT * FROM deliveries WHERE ${where} place < ? ORDER BY place DESC LIMIT ?`;
    return [...this.#sql.exec<Row>(query, ...values, before ?? Number.MAX_SAFE_INTEGER, limit)].map(deliveryOf);
  }

  isDisabled(url: string): boolean {
    return this.#sql.exec("SELECT 1 FROM disabled WHERE url = ?", url).toArray().length > 0;
  }

  /** Disables an address and ends its pending deliveries. */
  disable(url: string, now: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO disabled (url, at) VALUES (?, ?)", url, now);
    const query = `UPDATE deliveries SET state = 'disabled', next_at = NULL, ended_at = ?
     WHERE state = 'pending' AND url = ?`;
    this.#sql.exec(query, now, url);
  }

  enable(url: string): void {
    this.#sql.exec("DELETE FROM disabled WHERE url = ?", url);
  }

  /** Gives up outrun deliveries and removes old or excess rows, a bounded number per call. */
  sweep(now: number): { left: boolean; more: boolean } {
    const old = now - KEPT_MS;
    const outrun = this.#outrun();
    for (const delivery of outrun) {
      const { tries } = delivery;
      const last = { number: tries.length + 1, at: now, ms: 0, status: null, error: OUTRUN };
      this.update({ ...delivery, state: "failed", tries: [...tries, last], nextAt: null, endedAt: now });
    }
    const few = `SELECT place FROM deliveries WHERE ended_at < ? OR (state <> 'pending'
     AND place <= (SELECT max(place) FROM deliveries) - ?) ORDER BY ended_at LIMIT ?`;
    const gone = this.#removed(`deliveries WHERE place IN (${few})`, old, KEPT_MAX, SWEPT_AT_ONCE);
    const urls = "SELECT url FROM disabled WHERE at < ? LIMIT ?";
    const enabled = this.#removed(`disabled WHERE url IN (${urls})`, old, SWEPT_AT_ONCE);
    const more = Math.max(outrun.length, gone, enabled) >= SWEPT_AT_ONCE;
    const left = "SELECT EXISTS (SELECT 1 FROM deliveries) OR EXISTS (SELECT 1 FROM disabled) AS left";
    return { left: this.#sql.exec<{ left: number }>(left).one().left === 1, more };
  }

  // Private

  /** Pending deliveries that too many newer ones have followed, oldest first; at most SWEPT_AT_ONCE. */
  #outrun(): Delivery[] {
    const query = `SELECT * FROM deliveries WHERE state = 'pending' AND place <= (SELECT max(place) FROM deliveries) - ?
     ORDER BY place LIMIT ?`;
    return [...this.#sql.exec<Row>(query, NEWER_MAX, SWEPT_AT_ONCE)].map(deliveryOf);
  }

  /** Deletes and returns the number of rows; the platform's own count includes index rows. */
  #removed(from: string, ...values: number[]): number {
    return this.#sql.exec(`DELETE FROM ${from} RETURNING 1`, ...values).toArray().length;
  }

  #one(query: string, value: string): Delivery | null {
    const row = this.#sql.exec<Row>(query, value).toArray()[0];
    return row === undefined ? null : deliveryOf(row);
  }
}

function deliveryOf(row: Row): Delivery {
  const { place, id, event, tenant, kind, subject, type, at, url, dialect, state } = row;
  return {
    place,
    id,
    event,
    tenant,
    subject: { kind, id: subject },
    type,
    at,
    url,
    dialect,
    state,
    tries: JSON.parse(row.tries) as DeliveryTry[],
    createdAt: row.created_at,
    nextAt: row.next_at,
    endedAt: row.ended_at,
  };
}
