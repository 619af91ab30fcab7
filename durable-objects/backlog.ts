/**
 * The Backlog: which jobs a tenant has, and whose turn it is. Jobs that wait sleep here as rows, in order; only as many
 * as the tenant may run, and a few more, are started: each as a Workflow instance that stands in the Pool's line. A job
 * whose Workflow is not heard of any more is started again under a higher number, which shuts the earlier one out.
 *
 * A job here is
 *   reserved   admitted, its Job object is being made; forgotten when nobody says in RESERVED_MS that it stands
 *   asleep     waits for its turn, or for the time of its retry
 *   started    a Workflow instance runs it
 *   over       ended; listed until its time is over
 *
 * Kept here: the bound of waiting jobs, the order within tenant and service, and that nothing handed in is lost.
 */
import { DurableObject } from "cloudflare:workers";
import { Batches } from "./batches.ts";
import type { CourierRights } from "./courier-protocol.ts";
import type {
  BacklogLimits,
  BatchView,
  JobRights,
  JobStatus,
  Listed,
  ListQuery,
  NewBatch,
  NewJob,
  Pause,
  Reserved,
} from "./job-protocol.ts";
import { isOver } from "./job-protocol.ts";

/** Started jobs beyond what the tenant may run: they stand in the Pool's line, so that no slot waits for a start. */
const AHEAD = 8;
/** Started jobs of one service at the most. */
const STARTED_MAX = 500;
/** A submission that has not said so long that its jobs stand was cut off. */
const RESERVED_MS = 60_000;
/** A started job that was not heard of at two looks so far apart is started again: its Workflow speaks more often. */
const LOST_MS = 20_000;
/** A Workflow that was heard so lately is at work. */
const HEARD_MS = 15_000;
/** How often started jobs are looked after, and how many at once. */
const LOOK_EVERY_MS = 10_000;
const LOOKED_AT_ONCE = 50;
/** Rows removed in one sweep; when nothing is to be run, the next one follows so much later. */
const SWEPT_AT_ONCE = 1_000;
const SWEEP_EVERY_MS = 600_000;
/** Jobs of a deleted tenant that go in one call. */
const FORGOTTEN_AT_ONCE = 500;
/** Batches whose end is told in one go. */
const TOLD_AT_ONCE = 50;

const RANK = { high: 0, normal: 1, low: 2 } as const;

interface BacklogEnv {
  JOB: { getByName(name: string): JobRights };
  COURIER: { getByName(name: string): CourierRights };
  RUN_JOB: { create(options: { id: string; params: { job: string; run: number } }): Promise<unknown> };
}

type Row = {
  id: string;
  service: string;
  run: number;
  state: string;
  status: JobStatus;
  started_at: number | null;
  /** When it was first not heard of; null while it is. */
  missed_at: number | null;
};

const COLUMNS = "id, service, run, state, status, started_at, missed_at";

export class Backlog extends DurableObject<BacklogEnv> {
  readonly #sql: SqlStorage;
  readonly #batches: Batches;
  #pumping = false;
  #pumpAgain = false;

  constructor(ctx: DurableObjectState, env: BacklogEnv) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec(`
      CREATE TABLE IF NOT EXISTS jobs (
        place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, rank INTEGER NOT NULL,
        state TEXT NOT NULL, status TEXT NOT NULL, run INTEGER NOT NULL, batch TEXT, created_at INTEGER NOT NULL,
        reserved_at INTEGER NOT NULL, started_at INTEGER, missed_at INTEGER, not_before INTEGER, deadline_at INTEGER, over_at INTEGER,
        keep_ms INTEGER NOT NULL
      );
      CREATE INDEX IF NOT EXISTS jobs_turn ON jobs (service, state, rank, created_at, place);
      CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, status);
      CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, place);
      CREATE INDEX IF NOT EXISTS jobs_batch ON jobs (batch, place);
      CREATE INDEX IF NOT EXISTS jobs_batch_open ON jobs (batch) WHERE state <> 'over';
      CREATE INDEX IF NOT EXISTS jobs_old ON jobs (over_at + keep_ms) WHERE state = 'over';
      CREATE TABLE IF NOT EXISTS services (id TEXT PRIMARY KEY, concurrent INTEGER NOT NULL);
    `);
    this.#batches = new Batches(this.#sql);
  }

  /** Room for these jobs, all of them or none; they stand when `stand` says so. */
  async reserve(jobs: NewJob[], batch: NewBatch | null, limits: BacklogLimits): Promise<Reserved> {
    const now = Date.now();
    const fresh = jobs.filter(({ id }) => this.#row(id) === null);
    const waiting = this.#count("state IN ('reserved', 'asleep', 'started') AND status = 'queued'");
    if (waiting + fresh.length > limits.waiting) return { ok: false, waiting, max: limits.waiting };
    for (const [service, concurrent] of Object.entries(limits.concurrent)) {
      const values = [service, concurrent];
      this.#sql.exec("INSERT OR REPLACE INTO services (id, concurrent) VALUES (?, ?)", ...values);
    }
    for (const { id, service, priority, createdAt, startDeadlineAt, keepMs } of fresh) {
      const values = [id, service, RANK[priority], batch?.id ?? null, createdAt, now, startDeadlineAt, keepMs];
      this.#sql.exec(
        `INSERT INTO jobs (id, service, rank, state, status, run, batch, created_at, reserved_at, deadline_at, keep_ms)
         VALUES (?, ?, ?, 'reserved', 'queued', 0, ?, ?, ?, ?, ?)`,
        ...values,
      );
    }
    if (batch !== null) this.#batches.add(batch, now);
    await this.#wakeBy(now + RESERVED_MS);
    return { ok: true };
  }

  /**
   * Their Job objects are made: from here on they are run, whatever happens. False: their submission took too long, and
   * some of them are forgotten; then none stands.
   */
  async stand(ids: string[]): Promise<boolean> {
    const isKnown = ids.every((id) => this.#row(id) !== null);
    if (!isKnown) {
      await this.release(ids);
      return false;
    }
    for (const id of ids) this.#sql.exec("UPDATE jobs SET state = 'asleep' WHERE id = ? AND state = 'reserved'", id);
    await this.#wakeBy(Date.now() + LOOK_EVERY_MS);
    this.ctx.waitUntil(this.#pump());
    return true;
  }

  async stands(id: string): Promise<boolean | null> {
    const row = this.#row(id);
    return row === null ? null : row.state !== "reserved";
  }

  /** They did not come to be. */
  async release(ids: string[]): Promise<void> {
    for (const id of ids) this.#sql.exec("DELETE FROM jobs WHERE id = ? AND state = 'reserved'", id);
  }

  /** A Job tells what became of it; one that pauses sleeps until its next try is due. */
  async changed(id: string, status: JobStatus, pause: Pause | null): Promise<void> {
    const row = this.#row(id);
    if (row === null || row.state === "over") return;
    const now = Date.now();
    if (isOver(status)) {
      this.#sql.exec("UPDATE jobs SET status = ?, state = 'over', over_at = ? WHERE id = ?", status, now, id);
      this.#batches.close(id, now);
      await this.#wakeBy(now + LOOK_EVERY_MS);
      this.ctx.waitUntil(Promise.all([this.#pump(), this.#tellBatches()]));
      return;
    }
    // What has been started once is not late any more.
    const deadline = status === "running" ? ", deadline_at = NULL" : "";
    this.#sql.exec(`UPDATE jobs SET status = ?${deadline} WHERE id = ?`, status, id);
    if (pause === null) return;
    const query = "UPDATE jobs SET state = 'asleep', not_before = ? WHERE id = ? AND state = 'started' AND run = ?";
    this.#sql.exec(query, pause.at, id, pause.start);
    await this.#wakeBy(pause.at);
    this.ctx.waitUntil(this.#pump());
  }

  async place(id: string): Promise<{ ahead: number; concurrent: number }> {
    const row = this.#row(id);
    const concurrent = this.#concurrentOf(row?.service ?? "");
    if (row === null || row.state !== "asleep") return { ahead: 0, concurrent };
    const ahead = this.#sql.exec<{ n: number }>(
      `SELECT count(*) AS n FROM jobs AS other, (SELECT rank, created_at, place FROM jobs WHERE id = ?) AS own
       WHERE other.service = ? AND other.state = 'asleep'
       AND (other.rank, other.created_at, other.place) < (own.rank, own.created_at, own.place)`,
      id,
      row.service,
    );
    return { ahead: ahead.one().n, concurrent };
  }

  /** The latest first. */
  async list({ status, service, before, limit }: ListQuery): Promise<Listed[]> {
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

  async batch(id: string): Promise<BatchView | null> {
    return this.#batches.view(id);
  }

  /** Its tenant is gone, and so are its jobs, some at a time; true: none is left. */
  async forget(): Promise<boolean> {
    const ids = this.#sql.exec<{ id: string }>("SELECT id FROM jobs LIMIT ?", FORGOTTEN_AT_ONCE).toArray();
    for (let i = 0; i < ids.length; i += LOOKED_AT_ONCE) {
      const some = ids.slice(i, i + LOOKED_AT_ONCE);
      await Promise.all(some.map(({ id }) => this.env.JOB.getByName(id).discard()));
      for (const { id } of some) this.#sql.exec("DELETE FROM jobs WHERE id = ?", id);
    }
    if (this.#has("1")) return false;
    this.#batches.sweep();
    this.#sql.exec("DELETE FROM services");
    await this.ctx.storage.deleteAlarm();
    return true;
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    await this.#lookAfter(now);
    await this.#expire(now);
    await this.#tellBatches();
    const isSwept = this.#sweep(now);
    await this.#pump();
    const isBusy = this.#has("state IN ('reserved', 'asleep', 'started')") || this.#batches.untold(1).length > 0;
    if (isBusy || !isSwept) await this.#wakeBy(Math.min(now + LOOK_EVERY_MS, this.#nextDue(now)));
    else if (this.#has("1")) await this.#wakeBy(now + SWEEP_EVERY_MS);
  }

  // Private

  #row(id: string): Row | null {
    const query = `SELECT ${COLUMNS} FROM jobs WHERE id = ?`;
    return this.#sql.exec<Row>(query, id).toArray()[0] ?? null;
  }

  /** Batches that are over are told to the Courier, until it hears it. */
  async #tellBatches(): Promise<void> {
    await Promise.all(
      this.#batches.untold(TOLD_AT_ONCE).map(async ({ id, tenant, at, webhook }) => {
        const subject = { kind: "batch" as const, id };
        try {
          if (webhook !== null) {
            const { url, dialect } = webhook;
            const notice = { tenant, subject, type: "batch.finished", at, url, dialect };
            await this.env.COURIER.getByName(tenant).enqueue(notice);
          }
          this.#batches.heard(id);
        } catch (error) {
          // Told again at the next look.
          console.warn(JSON.stringify({ event: "batch_untold", batch: id, error: String(error) }));
        }
      }),
    );
  }

  /** Away with what was never handed in to the end, and with what is too old; false: there is more. */
  #sweep(now: number): boolean {
    const late = "DELETE FROM jobs WHERE state = 'reserved' AND reserved_at < ? RETURNING id";
    const cut = this.#sql.exec(late, now - RESERVED_MS).toArray();
    const few = "SELECT id FROM jobs WHERE state = 'over' AND over_at + keep_ms < ? LIMIT ?";
    const old = this.#sql.exec(`DELETE FROM jobs WHERE id IN (${few}) RETURNING id`, now, SWEPT_AT_ONCE).toArray();
    if (cut.length + old.length > 0) this.#batches.sweep();
    return old.length < SWEPT_AT_ONCE;
  }

  #has(where: string): boolean {
    const query = `SELECT EXISTS (SELECT 1 FROM jobs WHERE ${where}) AS has`;
    return this.#sql.exec<{ has: number }>(query).one().has === 1;
  }

  #count(where: string): number {
    return this.#sql.exec<{ n: number }>(`SELECT count(*) AS n FROM jobs WHERE ${where}`).one().n;
  }

  #concurrentOf(service: string): number {
    const query = "SELECT concurrent FROM services WHERE id = ?";
    return this.#sql.exec<{ concurrent: number }>(query, service).toArray()[0]?.concurrent ?? 1;
  }

  /** When the next retry or start deadline of a sleeping job comes; what is due already waits for room, not for a time. */
  #nextDue(now: number): number {
    const query = `SELECT min(not_before) AS at FROM jobs WHERE state = 'asleep' AND not_before > ?
     UNION ALL SELECT min(deadline_at) FROM jobs WHERE state = 'asleep' AND deadline_at > ?`;
    const rows = this.#sql.exec<{ at: number | null }>(query, now, now);
    return Math.min(...rows.toArray().map(({ at }) => at ?? Number.POSITIVE_INFINITY));
  }

  /** Those asleep that had to be started by now have failed. */
  async #expire(now: number): Promise<void> {
    const query = "SELECT id FROM jobs WHERE state = 'asleep' AND deadline_at <= ? AND status = 'queued' LIMIT ?";
    const late = this.#sql.exec<{ id: string }>(query, now, LOOKED_AT_ONCE).toArray();
    await Promise.all(
      late.map(({ id }) =>
        this.env.JOB.getByName(id)
          .late()
          .catch((error: unknown) =>
            console.warn(JSON.stringify({ event: "job_silent", job: id, error: String(error) })),
          ),
      ),
    );
  }

  /** Starts whose turn it is, one pass at a time. */
  async #pump(): Promise<void> {
    this.#pumpAgain = true;
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#pumpAgain) {
        this.#pumpAgain = false;
        await Promise.all(this.#due(Date.now()).map((row) => this.#start(row)));
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** Those that may start, in their order: marked as started, so that no other pass starts them too. */
  #due(now: number): Row[] {
    const due: Row[] = [];
    const services = this.#sql.exec<{ id: string }>("SELECT id FROM services").toArray();
    for (const { id: service } of services) {
      const started = this.#sql
        .exec<{ n: number }>("SELECT count(*) AS n FROM jobs WHERE service = ? AND state = 'started'", service)
        .one().n;
      const room = Math.min(STARTED_MAX, this.#concurrentOf(service) + AHEAD) - started;
      if (room <= 0) continue;
      const rows = this.#sql.exec<Row>(
        `SELECT ${COLUMNS} FROM jobs
         WHERE service = ? AND state = 'asleep' AND (not_before IS NULL OR not_before <= ?)
         ORDER BY rank, created_at, place LIMIT ?`,
        service,
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

  async #start({ id, run }: Row): Promise<void> {
    const next = run + 1;
    try {
      await this.env.RUN_JOB.create({ id: `${id}-${next}`, params: { job: id, run: next } });
    } catch (error) {
      // It exists when a start is repeated; one that really failed is found lost, and started again.
      console.warn(JSON.stringify({ event: "job_not_started", job: id, run: next, error: String(error) }));
    }
  }

  /** Starts again those that nobody works on any more. */
  async #lookAfter(now: number): Promise<void> {
    const query = `SELECT ${COLUMNS} FROM jobs WHERE state = 'started' AND started_at < ?`;
    const rows = this.#sql.exec<Row>(query, now - HEARD_MS).toArray();
    for (let i = 0; i < rows.length; i += LOOKED_AT_ONCE)
      await Promise.all(rows.slice(i, i + LOOKED_AT_ONCE).map((row) => this.#look(row, now)));
  }

  async #look({ id, run, missed_at: missedAt }: Row, now: number): Promise<void> {
    try {
      const pulse = await this.env.JOB.getByName(id).pulse();
      const isHeard = pulse !== null && pulse.heardMsAgo !== null && pulse.heardMsAgo < HEARD_MS;
      if (pulse === null) this.#sql.exec("DELETE FROM jobs WHERE id = ? AND run = ?", id, run);
      else if (isOver(pulse.status)) await this.changed(id, pulse.status, null);
      else if (isHeard) this.#sql.exec("UPDATE jobs SET missed_at = NULL WHERE id = ?", id);
      else if (missedAt === null || missedAt > now)
        this.#sql.exec("UPDATE jobs SET missed_at = ? WHERE id = ?", now, id);
      else if (now - missedAt >= LOST_MS) this.#sleepAgain(id, run);
    } catch (error) {
      // Looked at again next time.
      console.warn(JSON.stringify({ event: "job_silent", job: id, error: String(error) }));
    }
  }

  #sleepAgain(id: string, run: number): void {
    const query = "UPDATE jobs SET state = 'asleep', missed_at = NULL WHERE id = ? AND state = 'started' AND run = ?";
    this.#sql.exec(query, id, run);
  }

  /** An alarm by then, or earlier. */
  async #wakeBy(at: number): Promise<void> {
    const set = await this.ctx.storage.getAlarm();
    if (set === null || set > at) await this.ctx.storage.setAlarm(at);
  }
}
