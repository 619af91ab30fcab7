/**
 * A tenant's usage in SQLite, by day, service and key. Additions are buffered. The caller writes them in the same
 * commit as the records they belong to, and calls `forget` only after that commit.
 */
import type { UsageOf, UsagePage, UsageQuery, UsageRow, Use } from "./tenant-protocol.ts";
import { firstKept, keptUntil, nameOf, NO_USE, sum } from "./usage.ts";

/** Maximum number of old rows that one sweep removes per table. */
const SWEPT_AT_ONCE = 5_000;
/** How long batch ids are remembered; a batch is only ever repeated within a minute. */
const BATCH_MS = 3_600_000;

const OF = ["day", "service", "key"] as const;
const SUMS = `sum(requests) AS requests, sum(hits) AS hits, sum(results) AS results, sum(bytes) AS bytes,
  sum(gpu_ms) AS gpuMs, sum(cost_milli) AS costMilli`;

type Of = Record<keyof UsageOf, string>;
type Summed = Of & Record<Exclude<keyof Use, "refusals">, number>;

export class UsageStore {
  readonly #sql: SqlStorage;
  /** Additions since the last write. */
  readonly #rows = new Map<string, UsageRow>();
  readonly #batches = new Map<string, number>();

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS usage (
        day TEXT NOT NULL, service TEXT NOT NULL, key TEXT NOT NULL, requests INTEGER NOT NULL, hits INTEGER NOT NULL,
        results INTEGER NOT NULL, bytes INTEGER NOT NULL, gpu_ms INTEGER NOT NULL, cost_milli INTEGER NOT NULL,
        PRIMARY KEY (day, service, key)
      ) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS refusals (
        day TEXT NOT NULL, service TEXT NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (day, service, key, reason)
      ) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS batches_at ON batches (at);
    `);
  }

  add(of: UsageOf, use: Use): void {
    const { day, service, key } = of;
    const name = nameOf(of);
    this.#rows.set(name, { day, service, key, ...sum(this.#rows.get(name) ?? NO_USE, use) });
  }

  /** Adds the rows of a batch. Idempotent by batch id. */
  addBatch(id: string, rows: UsageRow[], now: number): void {
    if (this.#batches.has(id) || [...this.#sql.exec("SELECT 1 FROM batches WHERE id = ?", id)].length > 0) return;
    this.#batches.set(id, now);
    for (const row of rows) this.add(row, row);
  }

  write(): void {
    for (const { day, service, key, refusals, ...use } of this.#rows.values()) {
      const { requests, hits, results, bytes, gpuMs, costMilli } = use;
      this.#sql.exec(
        `INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
         requests = requests + excluded.requests, hits = hits + excluded.hits, results = results + excluded.results,
         bytes = bytes + excluded.bytes, gpu_ms = gpu_ms + excluded.gpu_ms, cost_milli = cost_milli + excluded.cost_milli`,
        day,
        service,
        key,
        requests,
        hits,
        results,
        bytes,
        gpuMs,
        costMilli,
      );
      for (const [reason, count] of Object.entries(refusals))
        this.#sql.exec(
          "INSERT INTO refusals VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
          day,
          service,
          key,
          reason,
          count,
        );
    }
    for (const [id, at] of this.#batches) this.#sql.exec("INSERT INTO batches VALUES (?, ?)", id, at);
  }

  forget(): void {
    this.#rows.clear();
    this.#batches.clear();
  }

  /** A page of the written usage. */
  page({ from, to, by, after, limit }: UsageQuery): UsagePage {
    const start = after !== null && by.includes("day") && after.day > from ? after.day : from;
    const [totals = NO_USE] = this.#groups(from, to, [], null, 1);
    return { rows: this.#groups(start, to, by, after, limit), totals };
  }

  /** Removes rows older than USAGE_DAYS, a bounded number per call. Returns when more are due, ms since the epoch. */
  sweep(now: number): number | null {
    const remove = (table: string, columns: string, old: string, before: string | number): void => {
      const some = `SELECT ${columns} FROM ${table} WHERE ${old} < ? ORDER BY ${old} LIMIT ?`;
      this.#sql.exec(`DELETE FROM ${table} WHERE (${columns}) IN (${some})`, before, SWEPT_AT_ONCE);
    };
    remove("usage", "day, service, key", "day", firstKept(now));
    remove("refusals", "day, service, key, reason", "day", firstKept(now));
    remove("batches", "id", "at", now - BATCH_MS);
    const days = "SELECT min(day) AS day FROM usage UNION ALL SELECT min(day) FROM refusals";
    const oldest = `SELECT (SELECT min(day) FROM (${days})) AS day, (SELECT min(at) FROM batches) AS at`;
    const { day, at } = this.#sql.exec<{ day: string | null; at: number | null }>(oldest).one();
    const due = Math.min(day === null ? Infinity : keptUntil(day), at === null ? Infinity : at + BATCH_MS);
    return due === Infinity ? null : due;
  }

  // Private

  /** Rows grouped by these columns, in sort order; the other columns are empty. */
  #groups(from: string, to: string, by: UsageQuery["by"], after: UsageOf | null, limit: number): UsageRow[] {
    const names = OF.map((name) => (by.includes(name) ? name : `'' AS ${name}`)).join(", ");
    const { day, service, key } = after ?? { day: "", service: "", key: "" };
    const rows = this.#sql.exec<Summed>(
      `SELECT * FROM (SELECT ${names}, ${SUMS} FROM usage WHERE day BETWEEN ? AND ? GROUP BY 1, 2, 3)
       WHERE ? OR (day, service, key) > (?, ?, ?) ORDER BY day, service, key LIMIT ?`,
      from,
      to,
      after === null ? 1 : 0,
      day,
      service,
      key,
      limit,
    );
    const found = new Map<string, UsageRow>([...rows].map((row) => [nameOf(row), { ...row, refusals: {} }]));
    const [first, last] = [[...found.values()].at(0), [...found.values()].at(-1)];
    if (first === undefined || last === undefined) return [];
    const refusals = this.#sql.exec<Of & { reason: string; count: number }>(
      `SELECT * FROM (SELECT ${names}, reason, sum(count) AS count FROM refusals WHERE day BETWEEN ? AND ? GROUP BY 1, 2, 3, 4)
       WHERE (day, service, key) >= (?, ?, ?) AND (day, service, key) <= (?, ?, ?)`,
      from,
      to,
      first.day,
      first.service,
      first.key,
      last.day,
      last.service,
      last.key,
    );
    for (const { reason, count, ...of } of refusals) {
      const row = found.get(nameOf(of));
      if (row !== undefined) row.refusals[reason] = count;
    }
    return [...found.values()];
  }
}
