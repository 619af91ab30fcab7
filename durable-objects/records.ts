/**
 * The outcome of each of a tenant's requests, kept for a day. Changes are buffered and written together: reads see them
 * at once, and a crash loses at most the admissions of the last WRITE_SOON_MS (tenant.ts).
 */
import type { RequestRecord, RunState } from "./tenant-protocol.ts";

/** How long a request's record is kept, ms. */
export const RECORD_MS = 86_400_000;
/** Maximum number of old records that one sweep removes. */
const SWEPT_AT_ONCE = 5_000;
/** Maximum number of open requests that are checked at once. */
const OPEN_AT_ONCE = 500;

/** Open jobs are kept longer: a job may wait for more than a day, and its charge is settled at its end. */
const OPEN_JOB = "state IN ('queued', 'running') AND id GLOB 'job_*'";

export interface Row extends RequestRecord {
  /** For a job, our id of the request that submitted it. */
  requestId?: string | null;
  /** Id of the caller's key. */
  key: string;
  /** Drops added to the rate bucket (rate.ts); 0 once returned. */
  cost: number;
  /** The bucket they were added to: the service's id, or empty for the tenant's own. */
  bucket: string;
  /** Results charged; 0 once refunded. */
  quota: number;
  /** Thousandths of a cost unit charged; 0 once refunded. */
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

/** Columns that tables created by older versions lack. */
const ADDED = {
  bucket: "TEXT NOT NULL DEFAULT ''",
  cost_milli: "INTEGER NOT NULL DEFAULT 0",
  key: "TEXT NOT NULL DEFAULT ''",
  request_id: "TEXT",
};

export class Records {
  readonly #sql: SqlStorage;
  /** Rows changed since the last write. */
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

  /** By our id, else the job submitted by that request id, else the latest request with that client id. */
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

  /** Written requests that have not ended and were admitted before `until`, oldest first; at most OPEN_AT_ONCE. */
  open(until: number): Row[] {
    // Jobs are excluded: their Backlog checks on them.
    const query = `SELECT * FROM requests WHERE state IN ('queued', 'running') AND at < ? AND id NOT LIKE 'job\\_%' ESCAPE '\\'
     ORDER BY at LIMIT ?`;
    return [...this.#sql.exec<Stored>(query, until, OPEN_AT_ONCE)].map(rowOf);
  }

  /** Removes records older than a day, a bounded number per call. `left`: some remain; `more`: some are due now. */
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
