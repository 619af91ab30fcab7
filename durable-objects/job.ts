/**
 * The Job: the source of truth for one job. Holds its spec, its state (job-state.ts), its events and its followers. The
 * Workflow that runs it and its tenant report changes. The Job reports each new state to its Backlog, and its end to
 * its Tenant (for billing) and the Courier; its alarm repeats reports that failed. Its input is deleted when it ends.
 * The Job deletes itself when its retention ends, or if its submission was cut off.
 *
 * Enforces invariants 8 and 9 of DESIGN.md, and that a job ends exactly once.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeAt } from "./alarm.ts";
import { withTimeout, shortly } from "./timeout.ts";
import type {
  Begun,
  JobError,
  JobEvent,
  JobSpec,
  JobState,
  JobStatus,
  JobView,
  Outcome,
  Pause,
} from "./job-protocol.ts";
import { isOver } from "./job-protocol.ts";
import * as core from "./job-state.ts";
import { dropInput, type JobEnv, outlookOf, tell } from "./job-notifier.ts";
import { NOTHING_SPENT } from "./tenant-protocol.ts";

/** Events kept for clients that reconnect: the most recent ones. */
const EVENTS_MAX = 500;
/** Longest wait of one call for something new. */
const WAIT_MS_MAX = 30_000;
/** How often the position of a queued job is refreshed while anybody follows it. */
const PLACE_EVERY_MS = 1_000;
/** Pause before a failed report is repeated. */
const TELL_AGAIN_MS = 5_000;
/** A client that polls the progress is expected to poll again within this time. */
const LOOKING_MS = 3_000;
/** `view` waits for reports in progress, so that lists agree with it, but at most this long. */
const TOLD_MS_MAX = 1_000;
/** When to check with the Backlog that the job was confirmed; longer than a reservation lives. */
const STANDS_MS = 120_000;
/** A retry that has not begun this long after it was due is reported to the Backlog again: its wake-up may be lost. */
const OVERDUE_MS = 15_000;

export class Job extends DurableObject<JobEnv> {
  #spec: JobSpec | null;
  #state: JobState;
  /** The state last reported, as text (`newsOf`). */
  #told: string | null;
  #telling: Promise<void> | null = null;
  /** When its Workflow last called. */
  #heardAt: number | null = null;
  /** The tenant's cap as the latest run read it. It may have changed since the submission. */
  #concurrent: number | null = null;
  /** Callbacks of calls that wait for a change. */
  readonly #waiters = new Set<() => void>();
  #followers = 0;
  /** When a client last polled the progress. */
  #lookedAt = 0;
  #placing = false;

  constructor(ctx: DurableObjectState, env: JobEnv) {
    super(ctx, env);
    this.#spec = ctx.storage.kv.get<JobSpec>("spec") ?? null;
    this.#state = ctx.storage.kv.get<JobState>("state") ?? core.NEW;
    this.#told = ctx.storage.kv.get<string>("told") ?? null;
    if (this.#spec !== null) this.#makeTable();
  }

  /** Idempotent. */
  async create(spec: JobSpec): Promise<void> {
    if (this.#spec !== null) return;
    this.#spec = spec;
    this.#makeTable();
    this.#told = core.newsOf(core.NEW);
    this.ctx.storage.kv.put("spec", spec);
    this.ctx.storage.kv.put("told", this.#told);
    this.#keep(core.created());
    await wakeAt(this.ctx.storage, Date.now() + STANDS_MS);
  }

  /** Deletes all traces of the job, because its tenant was deleted. */
  async discard(): Promise<void> {
    if (this.#spec !== null) await withTimeout(dropInput(this.env, this.#spec));
    await this.#forget();
  }

  /** Returns null if the job does not exist (any more) or belongs to another tenant. */
  async view(tenant: string): Promise<JobView | null> {
    const spec = this.#spec;
    if (spec === null || spec.tenant !== tenant) return null;
    if (this.#telling !== null) await shortly(this.#telling, TOLD_MS_MAX);
    const { webhook: _webhook, headers: _headers, input: _input, ...shown } = spec;
    const outlook = isOver(this.#state.status) ? null : await outlookOf(this.env, spec);
    // In the pause before a retry it waits only for time to pass.
    const inLine = this.#state.status === "queued" && (this.#state.retryAt ?? 0) <= Date.now();
    const waiting = inLine ? (outlook?.waiting ?? null) : null;
    return { spec: shown, state: this.#state, waiting, serviceMs: outlook?.serviceMs ?? null };
  }

  /** The webhook of the submission. */
  async webhook(): Promise<JobSpec["webhook"]> {
    return this.#spec?.webhook ?? null;
  }

  /** The tenant; null if the job does not exist (any more). */
  async owner(): Promise<string | null> {
    return this.#spec?.tenant ?? null;
  }

  /** The recorded progress values, 0 to 1, increasing within an attempt. */
  async steps(): Promise<number[]> {
    this.#lookedAt = Date.now();
    if (this.#spec === null) return [];
    const rows = this.ctx.storage.sql.exec<{ event: string }>("SELECT event FROM events ORDER BY id");
    const events = Array.from(rows, ({ event }) => JSON.parse(event) as JobEvent);
    return events.flatMap(({ type, progress }) => (type === "progress" && progress !== null ? [progress] : []));
  }

  /** Waits until the status differs from this one, at most `ms`. */
  async changed(status: JobStatus, ms: number): Promise<void> {
    await this.#until(() => this.#state.status !== status, ms);
  }

  /** The events after `last`, oldest first; waits at most `ms` for one. All events if `last` is ahead of them. */
  async events(last: number, ms: number): Promise<JobEvent[]> {
    const after = last > this.#state.seq ? 0 : last;
    this.#followers++;
    try {
      void this.#watchPlace();
      await this.#until(() => this.#state.seq > after || isOver(this.#state.status), ms);
    } finally {
      this.#followers--;
    }
    if (this.#spec === null) return [];
    const rows = this.ctx.storage.sql.exec<{ event: string }>(
      "SELECT event FROM events WHERE id > ? ORDER BY id LIMIT ?",
      after,
      EVENTS_MAX,
    );
    return Array.from(rows, ({ event }) => JSON.parse(event) as JobEvent);
  }

  // ------------------------------------------------------------------------------------ by the Workflow that runs it

  /** Begins a run for this Workflow instance and returns its run number; runs with lower numbers may write no more. */
  async begin(start: number): Promise<Begun> {
    const step = core.begin(this.#state, start, Date.now());
    if (this.#spec === null || step === null) return { over: true };
    this.#heardAt = Date.now();
    this.#keep(step);
    const { run, attempts, startedAt } = step.state;
    if (isOver(step.state.status)) return { over: true };
    const failed = attempts.flatMap(({ card, error }) => (card === null || error === null ? [] : [card]));
    return { over: false, run, spec: this.#spec, attempts: core.triesOf(step.state), failed, startedAt };
  }

  /** `concurrent`: how many jobs of this service the tenant may run at once now. */
  async started(run: number, card: string, concurrent: number): Promise<void> {
    this.#heardAt = Date.now();
    this.#concurrent = concurrent;
    this.#keep(core.started(this.#state, run, card, Date.now()));
  }

  async requeued(run: number, card: string, error: JobError): Promise<void> {
    this.#heardAt = Date.now();
    this.#keep(core.requeued(this.#state, run, card, error, Date.now()));
  }

  /** Returns true while anybody follows the job or polls its progress. */
  async progressed(run: number, progress: number): Promise<boolean> {
    this.#heardAt = Date.now();
    this.#keep(core.progressed(this.#state, run, progress));
    return this.#followers > 0 || Date.now() - this.#lookedAt < LOOKING_MS;
  }

  /** Records how a run ended; ignored if the run is obsolete. */
  async finish(run: number, outcome: Outcome): Promise<void> {
    this.#heardAt = Date.now();
    this.#keep(core.finish(this.#state, run, outcome, Date.now()));
  }

  /** Waits at most `ms` for this run to be stopped early (canceled or taken over). Returns whether it is. */
  async stopped(run: number, ms: number): Promise<boolean> {
    const isStopped = (): boolean => isOver(this.#state.status) || this.#state.run !== run;
    this.#heardAt = Date.now();
    await this.#until(isStopped, ms);
    this.#heardAt = Date.now();
    return isStopped();
  }

  // ------------------------------------------------------------------------------------- by its tenant and the Backlog

  /** Returns the previous status; null if there is no such job. */
  async cancel(tenant: string): Promise<JobStatus | null> {
    if (this.#spec === null || this.#spec.tenant !== tenant) return null;
    const before = this.#state.status;
    this.#keep(core.cancel(this.#state, Date.now()));
    return before;
  }

  /** Fails the job because its start deadline has passed, unless it has run. Returns its status; null: no such job. */
  async late(): Promise<JobStatus | null> {
    if (this.#spec === null) return null;
    const { startedAt, run } = this.#state;
    if (startedAt === null)
      this.#keep(core.finish(this.#state, run, core.lateStart(this.#spec, Date.now()), Date.now()));
    return this.#state.status;
  }

  /** The status and when the Workflow last called, for the Backlog's checks on started jobs; null: no such job. */
  async pulse(): Promise<{ status: JobStatus; heardMsAgo: number | null } | null> {
    if (this.#spec === null) return null;
    const heardMsAgo = this.#heardAt === null ? null : Math.max(0, Date.now() - this.#heardAt);
    return { status: this.#state.status, heardMsAgo };
  }

  override async alarm(): Promise<void> {
    const spec = this.#spec;
    if (spec === null) return;
    const { finishedAt, start } = this.#state;
    const pause = core.pauseOf(this.#state);
    const isTold = this.#told === core.newsOf(this.#state);
    if (finishedAt !== null && isTold && Date.now() >= finishedAt + spec.keepMs) return this.#forget();
    if (finishedAt === null && start === 0 && isTold) return this.#askAfter(spec);
    if (isTold && pause !== null) return this.#urge(spec, pause);
    await this.#tell();
  }

  // Private

  /** Stores a change and wakes the calls that wait for one. */
  #keep(change: core.Step): void {
    if (change === null || this.#spec === null) return;
    this.#state = change.state;
    this.ctx.storage.kv.put("state", change.state);
    for (const event of change.events) {
      const values = [event.id, JSON.stringify(event)];
      this.ctx.storage.sql.exec("INSERT OR REPLACE INTO events (id, event) VALUES (?, ?)", ...values);
    }
    this.ctx.storage.sql.exec("DELETE FROM events WHERE id <= ?", change.state.seq - EVENTS_MAX);
    for (const wake of this.#waiters) wake();
    if (this.#told !== core.newsOf(this.#state)) this.ctx.waitUntil(this.#tell());
  }

  /** Checks that the job was confirmed. One unknown to its Backlog was never acknowledged: refund it and delete it. */
  async #askAfter(spec: JobSpec): Promise<void> {
    const state = this.#state;
    // Before anything can fail: the platform retries a handler that throws only a few times.
    await wakeAt(this.ctx.storage, Date.now() + STANDS_MS);
    const stands = await withTimeout(this.env.BACKLOG.getByName(spec.tenant).stands(spec.id));
    if (stands === false) return;
    if (stands === true) {
      // If the state has changed, the change has set its own alarm.
      if (this.#state === state) await this.ctx.storage.deleteAlarm();
      return;
    }
    const tenant = this.env.TENANT.getByName(spec.tenant);
    await withTimeout(tenant.record(spec.id, "failed", null, [], "nothing", NOTHING_SPENT));
    await withTimeout(dropInput(this.env, spec));
    await this.#forget();
  }

  /** Reminds the Backlog of an overdue retry until it runs. */
  async #urge({ id, tenant }: JobSpec, pause: Pause): Promise<void> {
    await wakeAt(this.ctx.storage, Math.max(Date.now(), pause.at) + OVERDUE_MS);
    const backlog = this.env.BACKLOG.getByName(tenant);
    if (Date.now() >= pause.at) await withTimeout(backlog.changed(id, this.#state.status, pause, null));
  }

  /** Reports the state, one report at a time; the alarm repeats it until it succeeds. */
  #tell(): Promise<void> {
    this.#telling ??= this.#tellAll().finally(() => {
      this.#telling = null;
    });
    return this.#telling;
  }

  async #tellAll(): Promise<void> {
    for (let news = core.newsOf(this.#state); this.#told !== news; news = core.newsOf(this.#state)) {
      const spec = this.#spec;
      if (spec === null) return;
      await wakeAt(this.ctx.storage, Date.now() + TELL_AGAIN_MS);
      try {
        await tell(this.env, spec, this.#state, this.#concurrent);
      } catch (error) {
        console.warn(JSON.stringify({ event: "job_report_failed", job: spec.id, error: String(error) }));
        // The alarm set above may have fired while the report was under way.
        if (this.#spec !== null) await wakeAt(this.ctx.storage, Date.now() + TELL_AGAIN_MS);
        return;
      }
      // The job was deleted during the report.
      if (this.#spec === null) return;
      this.#told = news;
      this.ctx.storage.kv.put("told", news);
    }
    if (this.#spec === null) return;
    const { finishedAt, retryAt } = this.#state;
    if (finishedAt === null && retryAt === null) await this.ctx.storage.deleteAlarm();
    else if (finishedAt === null) await wakeAt(this.ctx.storage, (retryAt ?? 0) + OVERDUE_MS);
    else await wakeAt(this.ctx.storage, finishedAt + this.#spec.keepMs);
  }

  /** Resolves when the condition holds or the time is up. */
  async #until(holds: () => boolean, ms: number): Promise<void> {
    if (holds()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if (holds()) resolve();
    };
    this.#waiters.add(look);
    const timer = setTimeout(resolve, Math.min(WAIT_MS_MAX, Math.max(0, ms)));
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(look);
    }
  }

  /** Refreshes the position once a second, for all followers together, while the job is queued. */
  async #watchPlace(): Promise<void> {
    if (this.#placing) return;
    this.#placing = true;
    try {
      let last: number | null = null;
      while (this.#followers > 0 && this.#spec !== null && this.#state.status === "queued") {
        const position = (await outlookOf(this.env, this.#spec)).waiting?.position ?? null;
        if (position !== null && position !== last) this.#keep(core.moved(this.#state, position));
        last = position;
        await scheduler.wait(PLACE_EVERY_MS);
      }
    } catch (error) {
      // A follower's next call tries again.
      console.warn(JSON.stringify({ event: "position_refresh_failed", job: this.#spec?.id, error: String(error) }));
    } finally {
      this.#placing = false;
    }
  }

  /** Only for a job that exists: an object with a table, even an empty one, is never removed. */
  #makeTable(): void {
    this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event TEXT NOT NULL)");
  }

  async #forget(): Promise<void> {
    this.#spec = null;
    this.#state = core.NEW;
    this.#told = null;
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
    for (const wake of this.#waiters) wake();
  }
}
