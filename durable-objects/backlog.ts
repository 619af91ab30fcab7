/**
 * The Backlog: a tenant's jobs and the order in which they run. Waiting jobs are rows. Only as many as the tenant may
 * run at once, plus a few, are started; each started job is a Workflow instance that queues at the Pool. A job whose
 * Workflow stops reporting is started again with a higher run number, which fences off the earlier instance.
 *
 * States of a job:
 *   reserved   admitted, its Job object is being created; removed unless confirmed by `stand` within RESERVED_MS
 *   asleep     waits for its turn or for the time of its retry
 *   started    a Workflow instance runs it
 *   over       ended; listed until its retention ends
 *
 * Enforces the limit on waiting jobs and their order within tenant and service, and loses no accepted job.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeBy } from "./alarm.ts";
import { Batches } from "./batches.ts";
import type { CourierRpc } from "./courier-protocol.ts";
import type {
  BacklogLimits,
  BatchView,
  JobRpc,
  JobStatus,
  Listed,
  ListQuery,
  NewBatch,
  NewJob,
  Pause,
  Reserved,
} from "./job-protocol.ts";
import { isOver } from "./job-protocol.ts";
import { withTimeout } from "./timeout.ts";
import { type JobRow, JobTable } from "./job-table.ts";

/** A reservation that is not confirmed within this time is dropped: its submission was cut off. */
const RESERVED_MS = 60_000;
/** A started job that is silent at two checks this far apart is started again; a live Workflow reports more often. */
const LOST_MS = 20_000;
/** The same for a job that is still queued: no GPU works on it, and a live Workflow would have reported by now. */
const LOST_IN_LINE_MS = 4_000;
/** A Workflow that reported within this time is alive. */
const HEARD_MS = 15_000;
/** How often started jobs are checked, and how many of them at once. */
const LOOK_EVERY_MS = 10_000;
const LOOKED_AT_ONCE = 50;
/** Interval between sweeps when there is nothing to run. */
const SWEEP_EVERY_MS = 600_000;
/** Jobs of a deleted tenant that are removed per call. */
const FORGOTTEN_AT_ONCE = 500;
/** Finished batches that are reported per pass. */
const TOLD_AT_ONCE = 50;

interface BacklogEnv {
  JOB: { getByName(name: string): JobRpc };
  COURIER: { getByName(name: string): CourierRpc };
  RUN_JOB: { create(options: { id: string; params: { job: string; run: number } }): Promise<unknown> };
}

export class Backlog extends DurableObject<BacklogEnv> {
  readonly #jobs: JobTable;
  readonly #batches: Batches;
  #pumping = false;
  #pumpAgain = false;

  constructor(ctx: DurableObjectState, env: BacklogEnv) {
    super(ctx, env);
    this.#jobs = new JobTable(ctx.storage.sql);
    this.#batches = new Batches(ctx.storage.sql);
  }

  /** Reserves places for all of these jobs or none. `stand` confirms the reservation. */
  async reserve(jobs: NewJob[], batch: NewBatch | null, limits: BacklogLimits): Promise<Reserved> {
    const now = Date.now();
    const fresh = jobs.filter(({ id }) => this.#jobs.row(id) === null);
    const { waiting } = this.#jobs;
    if (waiting + fresh.length > limits.waiting) return { ok: false, waiting, max: limits.waiting };
    for (const [service, concurrent] of Object.entries(limits.concurrent))
      this.#jobs.setConcurrent(service, concurrent);
    for (const job of fresh) this.#jobs.reserve(job, batch?.id ?? null, now);
    if (batch !== null) this.#batches.add(batch, now);
    // The alarm for the first check on these jobs. Set here, so that `stand` need not write another.
    await wakeBy(this.ctx.storage, now + LOOK_EVERY_MS);
    return { ok: true };
  }

  /**
   * Confirms jobs whose Job objects have been created; from here on they run, whatever happens. Returns false, and
   * releases all of them, if the submission took too long and some reservations have expired.
   */
  async stand(ids: string[]): Promise<boolean> {
    const isKnown = ids.every((id) => this.#jobs.row(id) !== null);
    if (!isKnown) {
      await this.release(ids);
      return false;
    }
    for (const id of ids) this.#jobs.stand(id);
    await wakeBy(this.ctx.storage, Date.now() + LOOK_EVERY_MS);
    this.ctx.waitUntil(this.#pump());
    return true;
  }

  /** Whether a job, or the jobs of a batch (confirmed together), are confirmed; null if the id is unknown. */
  async stands(id: string): Promise<boolean | null> {
    const row = this.#jobs.row(id) ?? this.#jobs.firstOf(id);
    return row === null ? null : row.state !== "reserved";
  }

  /** Drops the reservations of jobs that were not created. */
  async release(ids: string[]): Promise<void> {
    for (const id of ids) this.#jobs.release(id);
  }

  /**
   * A Job reports its status. A job in a retry pause sleeps until the retry is due. `concurrent`: how many jobs of its
   * service the tenant may run at once, as of the latest run; null: unknown.
   */
  async changed(id: string, status: JobStatus, pause: Pause | null, concurrent: number | null = null): Promise<void> {
    const row = this.#jobs.row(id);
    if (row === null || row.state === "over") return;
    const now = Date.now();
    if (concurrent !== null && concurrent !== this.#jobs.concurrentOf(row.service)) {
      this.#jobs.setConcurrent(row.service, concurrent);
      this.ctx.waitUntil(this.#pump());
    }
    if (isOver(status)) {
      this.#jobs.end(id, status, now);
      this.#batches.close(id, now);
      await wakeBy(this.ctx.storage, now + LOOK_EVERY_MS);
      this.ctx.waitUntil(Promise.all([this.#pump(), this.#tellBatches()]));
      return;
    }
    this.#jobs.note(id, status);
    if (pause === null) return;
    this.#jobs.pause(id, pause);
    await wakeBy(this.ctx.storage, pause.at);
    this.ctx.waitUntil(this.#pump());
  }

  async place(id: string): Promise<{ ahead: number; concurrent: number }> {
    const row = this.#jobs.row(id);
    const concurrent = this.#jobs.concurrentOf(row?.service ?? "");
    return { ahead: row === null ? 0 : this.#jobs.aheadOf(row), concurrent };
  }

  /** Newest first. */
  async list(query: ListQuery): Promise<Listed[]> {
    return this.#jobs.list(query);
  }

  async batch(id: string): Promise<BatchView | null> {
    return this.#batches.view(id);
  }

  /** Removes jobs of a deleted tenant, a bounded number per call. Returns true when none is left. */
  async forget(): Promise<boolean> {
    const ids = this.#jobs.some(FORGOTTEN_AT_ONCE);
    for (let i = 0; i < ids.length; i += LOOKED_AT_ONCE) {
      const some = ids.slice(i, i + LOOKED_AT_ONCE);
      await Promise.all(some.map((id) => withTimeout(this.env.JOB.getByName(id).discard())));
      for (const id of some) this.#jobs.remove(id);
    }
    if (!this.#jobs.isEmpty) return false;
    this.#batches.sweep();
    this.#jobs.forgetServices();
    await this.ctx.storage.deleteAlarm();
    return true;
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    const isMissing = await this.#lookAfter(now);
    await this.#expire(now);
    await this.#tellBatches();
    const isSwept = this.#sweep(now);
    await this.#pump();
    const isBusy = this.#jobs.isBusy || this.#batches.unreported(1).length > 0;
    const lookMs = isMissing ? LOST_IN_LINE_MS : LOOK_EVERY_MS;
    if (isBusy || !isSwept) await wakeBy(this.ctx.storage, Math.min(now + lookMs, this.#jobs.nextDue(now)));
    else if (!this.#jobs.isEmpty) await wakeBy(this.ctx.storage, now + SWEEP_EVERY_MS);
  }

  // Private

  /** Reports finished batches to the Courier until it acknowledges. */
  async #tellBatches(): Promise<void> {
    await Promise.all(
      this.#batches.unreported(TOLD_AT_ONCE).map(async ({ id, tenant, at, webhook }) => {
        const subject = { kind: "batch" as const, id };
        try {
          if (webhook !== null) {
            const { url, dialect } = webhook;
            const notice = { tenant, subject, type: "batch.finished", at, url, dialect };
            await withTimeout(this.env.COURIER.getByName(tenant).enqueue(notice));
          }
          this.#batches.markReported(id);
        } catch (error) {
          // The next check repeats it.
          console.warn(JSON.stringify({ event: "batch_report_failed", batch: id, error: String(error) }));
        }
      }),
    );
  }

  /** Removes unconfirmed reservations and expired jobs. Returns false if there are more. */
  #sweep(now: number): boolean {
    const { gone, more } = this.#jobs.sweep(now - RESERVED_MS, now);
    if (gone > 0) this.#batches.sweep();
    return !more;
  }

  /** Fails sleeping jobs whose start deadline has passed. Stops if a Job does not answer; the next check continues. */
  async #expire(now: number): Promise<void> {
    for (;;) {
      const ids = this.#jobs.late(now, LOOKED_AT_ONCE);
      const answers = await Promise.all(ids.map((id) => this.#expireOne(id)));
      // A job that answered is no longer in `late`, so the next round gets other jobs.
      if (ids.length < LOOKED_AT_ONCE || answers.includes(false)) return;
    }
  }

  async #expireOne(id: string): Promise<boolean> {
    try {
      const status = await withTimeout(this.env.JOB.getByName(id).late());
      if (status === null) this.#jobs.remove(id);
      else if (isOver(status)) await this.changed(id, status, null);
      else this.#jobs.keepsNoDeadline(id);
      return true;
    } catch (error) {
      console.warn(JSON.stringify({ event: "job_unreachable", job: id, error: String(error) }));
      return false;
    }
  }

  /** Starts the jobs whose turn it is, one pass at a time. */
  async #pump(): Promise<void> {
    this.#pumpAgain = true;
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#pumpAgain) {
        this.#pumpAgain = false;
        await Promise.all(this.#jobs.start(Date.now()).map((row) => this.#start(row)));
      }
    } finally {
      this.#pumping = false;
    }
  }

  async #start({ id, run }: JobRow): Promise<void> {
    const next = run + 1;
    try {
      // The timeout keeps a lost reply from holding up all later jobs.
      await withTimeout(this.env.RUN_JOB.create({ id: `${id}-${next}`, params: { job: id, run: next } }));
    } catch (error) {
      // Expected if a repeated start finds its instance. A start that really failed is found lost, and repeated.
      console.warn(JSON.stringify({ event: "job_not_started", job: id, run: next, error: String(error) }));
    }
  }

  /** Puts started jobs whose Workflow is gone back to sleep. Returns whether others are silent but not yet given up. */
  async #lookAfter(now: number): Promise<boolean> {
    const rows = this.#jobs.startedBefore(now - HEARD_MS);
    for (let i = 0; i < rows.length; i += LOOKED_AT_ONCE)
      await Promise.all(rows.slice(i, i + LOOKED_AT_ONCE).map((row) => this.#look(row, now)));
    return this.#jobs.isMissing;
  }

  async #look(row: JobRow, now: number): Promise<void> {
    const { id, missed_at: missedAt } = row;
    try {
      const pulse = await withTimeout(this.env.JOB.getByName(id).pulse());
      const isHeard = pulse !== null && pulse.heardMsAgo !== null && pulse.heardMsAgo < HEARD_MS;
      if (pulse === null) this.#jobs.drop(row);
      else if (isOver(pulse.status)) await this.changed(id, pulse.status, null);
      else if (isHeard) this.#jobs.miss(id, null);
      else if (missedAt === null || missedAt > now) this.#jobs.miss(id, now);
      else if (now - missedAt >= (pulse.status === "queued" ? LOST_IN_LINE_MS : LOST_MS)) this.#jobs.lose(row);
    } catch (error) {
      // The next check tries again.
      console.warn(JSON.stringify({ event: "job_unreachable", job: id, error: String(error) }));
    }
  }
}
