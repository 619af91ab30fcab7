/**
 * The Job: one job's truth. What it is (its spec), what became of it (job-state.ts), its events, and those who follow
 * it. It is told what happens by the Workflow that runs it and by its tenant, and tells its Backlog of every new state, and of
 * its end its Tenant, who pays, and the Courier; what it could not tell it tells later, by its alarm. With its end goes its
 * input. After its time it forgets itself, and so does one whose submission was cut off.
 *
 * Kept here: invariants 8 and 9 of DESIGN.md, and that a job ends exactly once.
 */
import { DurableObject } from "cloudflare:workers";
import { wakeAt } from "./alarm.ts";
import { answered } from "./answer-protocol.ts";
import type { Begun, JobEvent, JobSpec, JobState, JobStatus, JobView, Outcome, Pause } from "./job-protocol.ts";
import { isOver } from "./job-protocol.ts";
import * as core from "./job-state.ts";
import { dropInput, type JobEnv, outlookOf, tell } from "./job-teller.ts";
import { NOTHING_SPENT } from "./tenant-protocol.ts";

/** Events kept for those who come back; the last ones always. */
const EVENTS_MAX = 500;
/** Longest that one call waits for something new. */
const WAIT_MS_MAX = 30_000;
/** While somebody follows a job in line, its place is asked for this often. */
const PLACE_EVERY_MS = 1_000;
/** What could not be told is told again after so long. */
const TELL_AGAIN_MS = 5_000;
/** Who looks at its steps is expected to look again within so long. */
const LOOKING_MS = 3_000;
/** What is shown was told first, so that lists agree with it; nobody waits longer for that. */
const TOLD_MS_MAX = 1_000;
/** A job that does not stand after so long is asked after: longer than a Backlog keeps its place. */
const STANDS_MS = 120_000;
/** A retry that has not begun so long after its time is told to the Backlog once more: its wake-up may be lost. */
const OVERDUE_MS = 15_000;

export class Job extends DurableObject<JobEnv> {
  #spec: JobSpec | null;
  #state: JobState;
  /** What was heard of it, as newsOf has it. */
  #told: string | null;
  #telling: Promise<void> | null = null;
  /** When its Workflow was heard last. */
  #heardAt: number | null = null;
  /** Who waits for something new. */
  readonly #waiters = new Set<() => void>();
  #followers = 0;
  /** When somebody looked at its steps last. */
  #lookedAt = 0;
  #placing = false;

  constructor(ctx: DurableObjectState, env: JobEnv) {
    super(ctx, env);
    this.#spec = ctx.storage.kv.get<JobSpec>("spec") ?? null;
    this.#state = ctx.storage.kv.get<JobState>("state") ?? core.NEW;
    this.#told = ctx.storage.kv.get<string>("told") ?? null;
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event TEXT NOT NULL)");
  }

  /** Twice is once. */
  async create(spec: JobSpec): Promise<void> {
    if (this.#spec !== null) return;
    this.#spec = spec;
    this.#told = core.newsOf(core.NEW);
    this.ctx.storage.kv.put("spec", spec);
    this.ctx.storage.kv.put("told", this.#told);
    this.#keep(core.created());
    await wakeAt(this.ctx.storage, Date.now() + STANDS_MS);
  }

  /** Its tenant is gone: as if it had never been. */
  async discard(): Promise<void> {
    if (this.#spec !== null) await answered(dropInput(this.env, this.#spec));
    await this.#forget();
  }

  /** Null: there is no such job (any more), or it is another tenant's. */
  async view(tenant: string): Promise<JobView | null> {
    const spec = this.#spec;
    if (spec === null || spec.tenant !== tenant) return null;
    if (this.#telling !== null) await Promise.race([this.#telling, scheduler.wait(TOLD_MS_MAX)]);
    const { webhook: _webhook, headers: _headers, input: _input, ...shown } = spec;
    const outlook = isOver(this.#state.status) ? null : await outlookOf(this.env, spec);
    // In the pause before its retry it waits for nothing but the time.
    const inLine = this.#state.status === "queued" && (this.#state.retryAt ?? 0) <= Date.now();
    const waiting = inLine ? (outlook?.waiting ?? null) : null;
    return { spec: shown, state: this.#state, waiting, serviceMs: outlook?.serviceMs ?? null };
  }

  /** What was handed in, for the webhook at its end. */
  async webhook(): Promise<JobSpec["webhook"]> {
    return this.#spec?.webhook ?? null;
  }

  /** Whose it is; null: there is no such job (any more). */
  async owner(): Promise<string | null> {
    return this.#spec?.tenant ?? null;
  }

  /** How far it was, each time that it was told: 0 to 1, rising within a try. */
  async steps(): Promise<number[]> {
    this.#lookedAt = Date.now();
    const rows = this.ctx.storage.sql.exec<{ event: string }>("SELECT event FROM events ORDER BY id");
    const events = Array.from(rows, ({ event }) => JSON.parse(event) as JobEvent);
    return events.flatMap(({ type, progress }) => (type === "progress" && progress !== null ? [progress] : []));
  }

  /** Waits until its status is another than this, for `ms` at most. */
  async changed(status: JobStatus, ms: number): Promise<void> {
    await this.#until(() => this.#state.status !== status, ms);
  }

  /** Events after this one, oldest first; waits for one, for `ms` at most. After one that never was, all of them. */
  async events(last: number, ms: number): Promise<JobEvent[]> {
    const after = last > this.#state.seq ? 0 : last;
    this.#followers++;
    try {
      void this.#watchPlace();
      await this.#until(() => this.#state.seq > after || isOver(this.#state.status), ms);
    } finally {
      this.#followers--;
    }
    const rows = this.ctx.storage.sql.exec<{ event: string }>(
      "SELECT event FROM events WHERE id > ? ORDER BY id LIMIT ?",
      after,
      EVENTS_MAX,
    );
    return Array.from(rows, ({ event }) => JSON.parse(event) as JobEvent);
  }

  // ------------------------------------------------------------------------------------ by the Workflow that runs it

  /** This Workflow instance runs it now, under the number that it is given; a run with a lower one may write no more. */
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

  async started(run: number, card: string): Promise<void> {
    this.#heardAt = Date.now();
    this.#keep(core.started(this.#state, run, card, Date.now()));
  }

  /** True while somebody follows it, or looks at it again and again. */
  async progressed(run: number, progress: number): Promise<boolean> {
    this.#heardAt = Date.now();
    this.#keep(core.progressed(this.#state, run, progress));
    return this.#followers > 0 || Date.now() - this.#lookedAt < LOOKING_MS;
  }

  /** How a run ended; from one that may write no more it is nobody's. */
  async finish(run: number, outcome: Outcome): Promise<void> {
    this.#heardAt = Date.now();
    this.#keep(core.finish(this.#state, run, outcome, Date.now()));
  }

  /** Waits until this run is to end before its time (canceled, or taken over), for `ms` at most; whether it is. */
  async stopped(run: number, ms: number): Promise<boolean> {
    const isStopped = (): boolean => isOver(this.#state.status) || this.#state.run !== run;
    this.#heardAt = Date.now();
    await this.#until(isStopped, ms);
    this.#heardAt = Date.now();
    return isStopped();
  }

  // ------------------------------------------------------------------------------------------- by its tenant and Backlog

  /** What it was before; null: no such job. */
  async cancel(tenant: string): Promise<JobStatus | null> {
    if (this.#spec === null || this.#spec.tenant !== tenant) return null;
    const before = this.#state.status;
    this.#keep(core.cancel(this.#state, Date.now()));
    return before;
  }

  /** It had to be started by now; one that has run once is not late. */
  async late(): Promise<void> {
    const { startedAt, run } = this.#state;
    if (this.#spec === null || startedAt !== null) return;
    this.#keep(core.finish(this.#state, run, core.lateStart(this.#spec, Date.now()), Date.now()));
  }

  /** Whether somebody works on it, for a Backlog that looks after those it has started. */
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

  /** Stores a change and wakes who waits for one. */
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

  /** Whether it stands. One that its Backlog does not know was never answered for: it costs nothing, and goes. */
  async #askAfter(spec: JobSpec): Promise<void> {
    const state = this.#state;
    // Before anything can fail: the platform repeats a handler that throws a few times, and then never again.
    await wakeAt(this.ctx.storage, Date.now() + STANDS_MS);
    const stands = await answered(this.env.BACKLOG.getByName(spec.tenant).stands(spec.id));
    if (stands === false) return;
    if (stands === true) {
      // What came of it meanwhile has set an alarm of its own.
      if (this.#state === state) await this.ctx.storage.deleteAlarm();
      return;
    }
    const tenant = this.env.TENANT.getByName(spec.tenant);
    await answered(tenant.record(spec.id, "failed", null, [], "nothing", NOTHING_SPENT));
    await answered(dropInput(this.env, spec));
    await this.#forget();
  }

  /** Again and again, until it runs. */
  async #urge({ id, tenant }: JobSpec, pause: Pause): Promise<void> {
    await wakeAt(this.ctx.storage, Math.max(Date.now(), pause.at) + OVERDUE_MS);
    const backlog = this.env.BACKLOG.getByName(tenant);
    if (Date.now() >= pause.at) await answered(backlog.changed(id, this.#state.status, pause));
  }

  /** Tells what became of the job, one state after the other; the alarm sees to it that it is heard in the end. */
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
        await tell(this.env, spec, this.#state);
      } catch (error) {
        console.warn(JSON.stringify({ event: "job_untold", job: spec.id, error: String(error) }));
        return;
      }
      // It was forgotten while it was told.
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

  /** Resolves when the condition holds, or at the limit. */
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

  /** One look a second for all who follow, while it is in line. */
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
      // Looked for again with the next question of a follower.
      console.warn(JSON.stringify({ event: "place_missed", job: this.#spec?.id, error: String(error) }));
    } finally {
      this.#placing = false;
    }
  }

  async #forget(): Promise<void> {
    this.#spec = null;
    this.#state = core.NEW;
    this.#told = null;
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
    this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, event TEXT NOT NULL)");
    for (const wake of this.#waiters) wake();
  }
}
