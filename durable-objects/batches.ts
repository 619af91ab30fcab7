/**
 * A tenant's batches, as rows beside its jobs: when each finished and whether that was reported. A batch finishes with
 * its last job, and is deleted with its jobs.
 */
import { type BatchView, JOB_STATUSES, type JobStatus, type JobWebhook, type NewBatch } from "./job-protocol.ts";

/** A finished batch. */
interface Ended {
  id: string;
  tenant: string;
  at: number;
  webhook: JobWebhook | null;
}

export class Batches {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS batches (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, created_at INTEGER NOT NULL, over_at INTEGER, webhook TEXT NOT NULL,
        told INTEGER NOT NULL DEFAULT 0
      );
      CREATE INDEX IF NOT EXISTS batches_untold ON batches (over_at) WHERE told = 0 AND over_at IS NOT NULL;
    `);
  }

  /** Idempotent. */
  add({ id, tenant, webhook }: NewBatch, now: number): void {
    const values = [id, tenant, now, JSON.stringify(webhook)];
    this.#sql.exec("INSERT OR IGNORE INTO batches (id, tenant, created_at, webhook) VALUES (?, ?, ?, ?)", ...values);
  }

  /** Returns null if there is no such batch or its submission is still in progress. */
  view(id: string): BatchView | null {
    const found = this.#sql
      .exec<{ created_at: number; over_at: number | null; webhook: string }>(
        "SELECT created_at, over_at, webhook FROM batches WHERE id = ?",
        id,
      )
      .toArray()[0];
    if (found === undefined) return null;
    const counts = Object.fromEntries(JOB_STATUSES.map((status) => [status, 0])) as Record<JobStatus, number>;
    const jobs: string[] = [];
    const rows = this.#sql.exec<{ id: string; status: JobStatus; state: string }>(
      "SELECT id, status, state FROM jobs WHERE batch = ? ORDER BY place",
      id,
    );
    for (const row of rows) {
      if (row.state === "reserved") return null;
      counts[row.status]++;
      jobs.push(row.id);
    }
    const { created_at: createdAt, over_at: finishedAt } = found;
    const webhook = JSON.parse(found.webhook) as JobWebhook | null;
    return jobs.length === 0 ? null : { id, createdAt, finishedAt, webhook, counts, jobs };
  }

  /** Called when a job has ended; finishes its batch if that was the last job. */
  close(job: string, now: number): void {
    this.#sql.exec(
      `UPDATE batches SET over_at = ? WHERE over_at IS NULL AND id = (SELECT batch FROM jobs WHERE id = ?)
       AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = batches.id AND state <> 'over')`,
      now,
      job,
    );
  }

  /** Finished batches that have not been reported, oldest first. */
  unreported(limit: number): Ended[] {
    const query = `SELECT id, tenant, over_at AS at, webhook FROM batches WHERE told = 0 AND over_at IS NOT NULL
     ORDER BY over_at LIMIT ?`;
    const rows = this.#sql.exec<{ id: string; tenant: string; at: number; webhook: string }>(query, limit);
    return Array.from(rows, ({ webhook, ...row }) => ({ ...row, webhook: JSON.parse(webhook) as JobWebhook | null }));
  }

  markReported(id: string): void {
    this.#sql.exec("UPDATE batches SET told = 1 WHERE id = ?", id);
  }

  /** Deletes batches without jobs. */
  sweep(): void {
    this.#sql.exec("DELETE FROM batches WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE batch = batches.id)");
  }
}
