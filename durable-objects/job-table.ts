/**
 * A tenant's jobs as rows, ordered by service, priority and arrival. See backlog.ts for the states. Updates that may
 * arrive late or twice are conditional on the expected state, so that they have no effect then.
 */
import { RANK } from "./place.ts";
import type { JobStatus, Listed, ListQuery, NewJob, Pause } from "./job-protocol.ts";

/** Jobs started beyond the tenant's cap. They queue at the Pool, so that no slot is idle while a job starts. */
const AHEAD = 8;
/** Maximum number of started jobs per service. */
const STARTED_MAX = 500;
/** Maximum number of rows of ended jobs removed per sweep. */
const SWEPT_AT_ONCE = 1_000;

/** One job's row. */
export type JobRow = {
  id: string;
  service: string;
  run: number;
  state: "reserved" | "asleep" | "started" | "over";
  status: JobStatus;
  started_at: number | null;
  /** When it was first found silent; null while its Workflow reports. */
  missed_at: number | null;
};

const COLUMNS = "id, service, run, state, status, started_at, missed_at";

export class JobTable {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS jobs (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, rank INTEGER NOT NULL,
        state TEXT NOT NULL, status TEXT NOT NULL, run INTEGER NOT NULL, batch TEXT, created_at INTEGER NOT NULL,
        reserved_at INTEGER NOT NULL, started_at INTEGER, missed_at INTEGER, not_before INTEGER, deadline_at INTEGER, over_at INTEGER,
        keep_ms INTEGER NOT NULL
      );
      CREATE INDEX IF NOT EXISTS jobs_turn ON jobs (service, state, rank, created_at, place);
      CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, status);
      CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, place);
      CREATE INDEX IF NOT EXISTS jobs_batch ON jobs (batch, place) WHERE batch IS NOT NULL;
      CREATE INDEX IF NOT EXISTS jobs_batch_open ON jobs (batch) WHERE batch IS NOT NULL AND state <> 'over';
      CREATE INDEX IF NOT EXISTS jobs_old ON jobs (over_at + keep_ms) WHERE state = 'over';
      CREATE TABLE IF NOT EXISTS services (id TEXT PRIMARY KEY, concurrent INTEGER NOT NULL);
    `);
  }

  row(id: string): JobRow | null {
    const query = `SELECT ${COLUMNS} FROM jobs WHERE id = ?`;
    return this.#sql.exec<JobRow>(query, id).toArray()[0] ?? null;
  }

  /** The first job of a batch. */
  firstOf(batch: string): JobRow | null {
    const query = `SELECT ${COLUMNS} FROM jobs WHERE batch = ? ORDER BY place LIMIT 1`;
    return this.#sql.exec<JobRow>(query, batch).toArray()[0] ?? null;
  }

  /** The number of jobs that do not run yet. */
  get waiting(): number {
    return this.#count("state IN ('reserved', 'asleep', 'started') AND status = 'queued'");
  }

  get isEmpty(): boolean {
    return !this.#has("1");
  }

  /** Whether any job is not over. */
  get isBusy(): boolean {
    return this.#has("state IN ('reserved', 'asleep', 'started')");
  }

  /** Whether any started job is silent. */
  get isMissing(): boolean {
    return this.#has("state = 'started' AND missed_at IS NOT NULL");
  }

  /** How many jobs of a service the tenant may run at once; 1 if not set. */
  concurrentOf(service: string): number {
    const query = "SELECT concurrent FROM services WHERE id = ?";
    return this.#sql.exec<{ concurrent: number }>(query, service).toArray()[0]?.concurrent ?? 1;
  }

  setConcurrent(service: string, concurrent: number): void {
    this.#sql.exec("INSERT OR REPLACE INTO services (id, concurrent) VALUES (?, ?)", service, concurrent);
  }

  reserve(
    { id, service, priority, createdAt, startDeadlineAt, keepMs }: NewJob,
    batch: string | null,
    now: number,
  ): void {
    const values = [id, service, RANK[priority], batch, createdAt, now, startDeadlineAt, keepMs];
    this.#sql.exec(
      `INSERT INTO jobs (id, service, rank, state, status, run, batch, created_at, reserved_at, deadline_at, keep_ms)
       VALUES (?, ?, ?, 'reserved', 'queued', 0, ?, ?, ?, ?, ?)`,
      ...values,
    );
  }

  stand(id: string): void {
    this.#sql.exec("UPDATE jobs SET state = 'asleep' WHERE id = ? AND state = 'reserved'", id);
  }

  release(id: string): void {
    this.#sql.exec("DELETE FROM jobs WHERE id = ? AND state = 'reserved'", id);
  }

  end(id: string, status: JobStatus, now: number): void {
    this.#sql.exec("UPDATE jobs SET status = ?, state = 'over', over_at = ? WHERE id = ?", status, now, id);
  }

  /** Sets the status. A job that has run no longer has a start deadline. */
  note(id: string, status: JobStatus): void {
    const deadline = status === "running" ? ", deadline_at = NULL" : "";
    this.#sql.exec(`UPDATE jobs SET status = ?${deadline} WHERE id = ?`, status, id);
  }

  /** Puts the job to sleep until its retry is due, unless a later start runs it. */
  pause(id: string, { at, start }: Pause): void {
    const query = "UPDATE jobs SET state = 'asleep', not_before = ? WHERE id = ? AND state = 'started' AND run = ?";
    this.#sql.exec(query, at, id, start);
  }

  /** The number of sleeping jobs ahead of it; 0 if it is not asleep. */
  aheadOf({ id, service, state }: JobRow): number {
    if (state !== "asleep") return 0;
    const ahead = this.#sql.exec<{ n: number }>(
      `SELECT count(*) AS n FROM jobs AS other, (SELECT rank, created_at, place FROM jobs WHERE id = ?) AS own
       WHERE other.service = ? AND other.state = 'asleep'
       AND (other.rank, other.created_at, other.place) < (own.rank, own.created_at, own.place)`,
      id,
      service,
    );
    return ahead.one().n;
  }

  /** Newest first. */
  list({ status, service, before, limit }: ListQuery): Listed[] {
    const [byStatus, statuses] = status === null ? ["", []] : ["AND status = ?", [status]];
    const [byService, services] = service === null ? ["", []] : ["AND service = ?", [service]];
    const rows = this.#sql.exec<{ id: string; service: string; status: JobStatus; place: number }>(
      `SELECT id, service, status, place FROM jobs WHERE state <> 'reserved' AND place < ? ${byStatus} ${byService}
       ORDER BY place DESC LIMIT ?`,
      before ?? Number.MAX_SAFE_INTEGER,
      ...statuses,
      ...services,
      limit,
    );
    return [...rows];
  }

  /**
   * Takes, in order, the jobs that may start and have not missed their start deadline. Marks them as started, so that
   * no other pass starts them too.
   */
  start(now: number): JobRow[] {
    const due: JobRow[] = [];
    const services = this.#sql.exec<{ id: string }>("SELECT id FROM services").toArray();
    for (const { id: service } of services) {
      const started = this.#count("service = ? AND state = 'started'", service);
      const room = Math.min(STARTED_MAX, this.concurrentOf(service) + AHEAD) - started;
      if (room <= 0) continue;
      const rows = this.#sql.exec<JobRow>(
        `SELECT ${COLUMNS} FROM jobs
         WHERE service = ? AND state = 'asleep' AND (not_before IS NULL OR not_before <= ?)
         AND (deadline_at IS NULL OR deadline_at > ?) ORDER BY rank, created_at, place LIMIT ?`,
        service,
        now,
        now,
        room,
      );
      due.push(...rows.toArray());
    }
    const query =
      "UPDATE jobs SET state = 'started', run = run + 1, started_at = ?, missed_at = NULL, not_before = NULL WHERE id = ?";
    for (const { id } of due) this.#sql.exec(query, now, id);
    return due;
  }

  /** Jobs started before this time. */
  startedBefore(at: number): JobRow[] {
    const query = `SELECT ${COLUMNS} FROM jobs WHERE state = 'started' AND started_at < ?`;
    return this.#sql.exec<JobRow>(query, at).toArray();
  }

  /** Sets since when the job has been silent; null: it reports again. */
  miss(id: string, at: number | null): void {
    this.#sql.exec("UPDATE jobs SET missed_at = ? WHERE id = ?", at, id);
  }

  /** The start was lost: the job sleeps again, ready to be restarted. */
  lose({ id, run }: JobRow): void {
    const query = "UPDATE jobs SET state = 'asleep', missed_at = NULL WHERE id = ? AND state = 'started' AND run = ?";
    this.#sql.exec(query, id, run);
  }

  /** Deletes a job whose Job object no longer exists. */
  drop({ id, run }: JobRow): void {
    this.#sql.exec("DELETE FROM jobs WHERE id = ? AND run = ?", id, run);
  }

  /** The next retry time or start deadline of a sleeping job. Jobs already due wait for room, not for a time. */
  nextDue(now: number): number {
    const query = `SELECT min(not_before) AS at FROM jobs WHERE state = 'asleep' AND not_before > ?
     UNION ALL SELECT min(deadline_at) FROM jobs WHERE state = 'asleep' AND deadline_at > ?`;
    const rows = this.#sql.exec<{ at: number | null }>(query, now, now);
    return Math.min(...rows.toArray().map(({ at }) => at ?? Number.POSITIVE_INFINITY));
  }

  /** Ids of sleeping jobs whose start deadline has passed. */
  late(now: number, limit: number): string[] {
    const query = "SELECT id FROM jobs WHERE state = 'asleep' AND deadline_at <= ? LIMIT ?";
    return this.#ids(query, now, limit);
  }

  /** Removes the start deadline of a job that has run. */
  keepsNoDeadline(id: string): void {
    this.#sql.exec("UPDATE jobs SET deadline_at = NULL WHERE id = ?", id);
  }

  some(limit: number): string[] {
    return this.#ids("SELECT id FROM jobs LIMIT ?", limit);
  }

  remove(id: string): void {
    this.#sql.exec("DELETE FROM jobs WHERE id = ?", id);
  }

  forgetServices(): void {
    this.#sql.exec("DELETE FROM services");
  }

  /** Deletes reservations made before `reservedBefore` and expired jobs. `gone`: how many; `more`: some remain. */
  sweep(reservedBefore: number, now: number): { gone: number; more: boolean } {
    const late = "DELETE FROM jobs WHERE state = 'reserved' AND reserved_at < ? RETURNING id";
    const cut = this.#ids(late, reservedBefore);
    const few = "SELECT id FROM jobs WHERE state = 'over' AND over_at + keep_ms < ? LIMIT ?";
    const old = this.#ids(`DELETE FROM jobs WHERE id IN (${few}) RETURNING id`, now, SWEPT_AT_ONCE);
    return { gone: cut.length + old.length, more: old.length === SWEPT_AT_ONCE };
  }

  // Private

  #ids(query: string, ...values: number[]): string[] {
    return this.#sql
      .exec<{ id: string }>(query, ...values)
      .toArray()
      .map(({ id }) => id);
  }

  #has(where: string): boolean {
    const query = `SELECT EXISTS (SELECT 1 FROM jobs WHERE ${where}) AS has`;
    return this.#sql.exec<{ has: number }>(query).one().has === 1;
  }

  #count(where: string, ...values: string[]): number {
    return this.#sql.exec<{ n: number }>(`SELECT count(*) AS n FROM jobs WHERE ${where}`, ...values).one().n;
  }
}
