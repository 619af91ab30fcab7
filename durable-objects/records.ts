/**
 * What became of a tenant's requests, for a day. Changes are written together, admissions later than told: reads see
 * them at once, a crash loses those of the last WRITE_SOON_MS.
 */
import type { RequestRecord, RunState } from "./tenant-protocol.ts";

/** How long a request's record is kept. */
export const RECORD_MS = 86_400_000;
/** Old records that one sweep removes at most. */
const SWEPT_AT_ONCE = 5_000;
/** Requests under way that are looked at in one go. */
const OPEN_AT_ONCE = 500;

/** A job may wait for longer than a record is kept; what it was charged is given back or counted at its end. */
const OPEN_JOB = "state IN ('queued', 'running') AND id GLOB 'job_*'";

export interface Row extends RequestRecord {
  /** Of a job, our id of the request that handed it in. */
  requestId?: string | null;
  /** Id of the caller's key. */
  key: string;
  /** Drops that its token put into the bucket (rate.ts); 0 once given back. */
  cost: number;
  /** Whose bucket that was: its service's own, or the tenant's (empty). */
  bucket: string;
  /** Results that it is charged; 0 once given back. */
  quota: number;
  /** Thousandths of a cost unit that it is charged; 0 once given back. */
  costMilli: number;
}

type Stored = {
  id: string;
  client_id: string | null;
  request_id: string | null;
  service: string;
  state: string;
  status: number | null;
  results: string;
  at: number;
  cost: number;
  bucket: string;
  quota: number;
  key: string;
  cost_milli: number;
};

/** Columns that the tables of older objects lack. */
const ADDED = {
  bucket: "TEXT NOT NULL DEFAULT ''",
  cost_milli: "INTEGER NOT NULL DEFAULT 0",
  key: "TEXT NOT NULL DEFAULT ''",
  request_id: "TEXT",
};

export class Records {
  readonly #sql: SqlStorage;
  /** Rows that changed since the last write. */
  readonly #unwritten = new Map<string, Row>();

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS requests (
        id TEXT PRIMARY KEY, client_id TEXT, service TEXT NOT NULL, state TEXT NOT NULL, status INTEGER,
        results TEXT NOT NULL, at INTEGER NOT NULL, cost REAL NOT NULL, quota INTEGER NOT NULL,
        key TEXT NOT NULL DEFAULT ''
      );
      CREATE INDEX IF NOT EXISTS requests_client ON requests (client_id, at) WHERE client_id IS NOT NULL;
      CREATE INDEX IF NOT EXISTS requests_at ON requests (at);
      CREATE INDEX IF NOT EXISTS requests_open ON requests (at) WHERE state IN ('queued', 'running');
    `);
    const there = [...sql.exec<{ name: string }>("SELECT name FROM pragma_table_info('requests')")];
    for (const [column, type] of Object.entries(ADDED))
      if (!there.some(({ name }) => name === column)) sql.exec(`ALTER TABLE requests ADD COLUMN ${column} ${type}`);
    sql.exec("CREATE INDEX IF NOT EXISTS requests_request ON requests (request_id) WHERE request_id IS NOT NULL");
  }

  get(id: string): Row | null {
    return this.#unwritten.get(id) ?? this.#read("SELECT * FROM requests WHERE id = ?", id);
  }

  /** By our id, else a job by that of its request, else the latest of a caller's own name. */
  find(name: string): Row | null {
    return this.get(name) ?? this.#handedInBy(name) ?? this.#latestOf(name);
  }

  put(row: Row): void {
    this.#unwritten.set(row.id, row);
  }

  write(): void {
    for (const row of this.#unwritten.values()) {
      const {
        id,
        clientId,
        requestId = null,
        service,
        state,
        status,
        results,
        at,
        cost,
        bucket,
        quota,
        costMilli,
        key,
      } = row;
      const values = [
        id,
        clientId,
        service,
        state,
        status,
        JSON.stringify(results),
        at,
        cost,
        bucket,
        quota,
        costMilli,
        key,
        requestId,
      ];
      this.#sql.exec(
        `INSERT INTO requests (id, client_id, service, state, status, results, at, cost, bucket, quota, cost_milli, key, request_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, status = excluded.status, results = excluded.results,
         cost = excluded.cost, quota = excluded.quota, cost_milli = excluded.cost_milli`,
        ...values,
      );
    }
    this.#unwritten.clear();
  }

  /** Of those written, requests that have not ended and were admitted before `until`, the oldest first; at most OPEN_AT_ONCE. */
  open(until: number): Row[] {
    // Jobs are looked after by their Backlog.
    const query = `SELECT * FROM requests WHERE state IN ('queued', 'running') AND at < ? AND id NOT LIKE 'job\\_%' ESCAPE '\\'
     ORDER BY at LIMIT ?`;
    return [...this.#sql.exec<Stored>(query, until, OPEN_AT_ONCE)].map(rowOf);
  }

  /** Removes what is older than a day, a bounded number at a time; says when the next look is worth it. */
  sweep(now: number): { left: boolean; more: boolean } {
    const old = now - RECORD_MS;
    const few = `SELECT id FROM requests WHERE at < ? AND NOT (${OPEN_JOB}) ORDER BY at LIMIT ?`;
    this.#sql.exec(`DELETE FROM requests WHERE id IN (${few})`, old, SWEPT_AT_ONCE);
    const query = `SELECT min(at) AS at FROM requests WHERE NOT (${OPEN_JOB})`;
    const oldest = this.#sql.exec<{ at: number | null }>(query).one().at;
    return { left: oldest !== null, more: oldest !== null && oldest < old };
  }

  #handedInBy(requestId: string): Row | null {
    const unwritten = [...this.#unwritten.values()].find((row) => row.requestId === requestId);
    return unwritten ?? this.#read("SELECT * FROM requests WHERE request_id = ?", requestId);
  }

  #latestOf(clientId: string): Row | null {
    const unwritten = [...this.#unwritten.values()].filter((row) => row.clientId === clientId);
    const newest = unwritten.reduce<Row | null>((best, row) => (best === null || row.at >= best.at ? row : best), null);
    const stored = this.#read(
      "SELECT * FROM requests WHERE client_id = ? ORDER BY at DESC, rowid DESC LIMIT 1",
      clientId,
    );
    return newest !== null && (stored === null || newest.at >= stored.at) ? newest : stored;
  }

  #read(query: string, value: string): Row | null {
    const row = this.#sql.exec<Stored>(query, value).toArray()[0];
    return row === undefined ? null : rowOf(row);
  }
}

function rowOf({
  client_id: clientId,
  request_id: requestId,
  cost_milli: costMilli,
  state,
  results,
  ...rest
}: Stored): Row {
  return {
    ...rest,
    clientId,
    requestId,
    costMilli,
    state: state as RunState,
    results: JSON.parse(results) as string[],
  };
}
