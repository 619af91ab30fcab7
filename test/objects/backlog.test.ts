/** Checks the Backlog against a model, with restarts at any moment. Jobs, Workflows and the Courier are fakes. */
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import * as fc from "fast-check";
import { expect, test, vi } from "vitest";
import type { Notice } from "../../durable-objects/courier-protocol.ts";
import type { JobStatus, NewJob } from "../../durable-objects/job-protocol.ts";
import { eventually, evict, fresh, passTime } from "./objects.ts";

const WAITING_MAX = 30;
/** Longer than the Backlog waits for an answer. */
const ANSWERED_MS_MAX = 15_000;
const CONCURRENT = 2;
/** The cap, plus the jobs that may wait in the Pool's line. */
const STARTED_MAX = CONCURRENT + 8;
const DAY_MS = 86_400_000;
const PAUSE_MS = 40_000;
/** Longer than a submission may take. */
const RESERVED_MS = 60_000;
/** After this many alarms, 10 s apart, the Backlog treats a silent job as lost. */
const LOOKS_TO_LOSE = 6;

interface Known {
  id: string;
  batch: string | null;
  state: "reserved" | "asleep" | "started" | "over";
  status: JobStatus;
  run: number;
  reservedAt: number;
  notBefore: number;
}

/** One Backlog with fake neighbors, and the model of its jobs. */
class World {
  readonly tenant = fresh("tenant");
  readonly jobs: Known[] = [];
  /** Workflow instances in the order of their creation. */
  readonly starts: string[] = [];
  readonly told: Notice[] = [];
  readonly silent = new Set<string>();
  courierFails = false;

  get stub() {
    return env.BACKLOG.getByName(this.tenant);
  }

  /** Gives the current instance of the object its fake neighbors. */
  async settle(): Promise<void> {
    const create = ({ id, params }: { id: string; params: { job: string; run: number } }): Promise<void> => {
      this.starts.push(id);
      expect(id).toBe(`${params.job}-${params.run}`);
      return Promise.resolve();
    };
    const enqueue = (notice: Notice): Promise<void> => {
      if (this.courierFails) return Promise.reject(new Error("silent"));
      this.told.push(notice);
      return Promise.resolve();
    };
    const job = (id: string) => ({
      pulse: () => {
        const known = this.jobs.find((one) => one.id === id);
        return Promise.resolve({ status: known?.status ?? "queued", heardMsAgo: this.silent.has(id) ? null : 0 });
      },
      late: () => Promise.resolve("failed"),
      discard: () => Promise.resolve(),
    });
    const neighbours = {
      RUN_JOB: { create },
      COURIER: { getByName: () => ({ enqueue }) },
      JOB: { getByName: job },
    };
    await runInDurableObject(this.stub, (backlog) => {
      Object.assign(backlog, { env: neighbours });
    });
  }

  newJob(id: string): NewJob {
    return { id, service: "s", priority: "normal", createdAt: Date.now(), startDeadlineAt: null, keepMs: DAY_MS };
  }

  some(state: Known["state"], pick: number): Known | undefined {
    const those = this.jobs.filter((job) => job.state === state);
    return those[pick % Math.max(1, those.length)];
  }

  /** Advances the clock and runs the alarm. The model drops reservations that took too long. */
  async later(ms: number): Promise<void> {
    passTime(ms);
    await runDurableObjectAlarm(this.stub);
    const { jobs } = this;
    const kept = jobs.filter(({ state, reservedAt }) => state !== "reserved" || reservedAt >= Date.now() - RESERVED_MS);
    jobs.splice(0, jobs.length, ...kept);
  }

  /** Whether the Backlog lists the job as started, with the run number of the model. */
  isAtWork({ id, run }: Known): Promise<boolean> {
    return runInDurableObject(this.stub, (_, { storage }) => {
      const query = "SELECT 1 FROM jobs WHERE id = ? AND state = 'started' AND run = ?";
      return storage.sql.exec(query, id, run).toArray().length > 0;
    });
  }

  /** Starts in the model all jobs that the Backlog must have started by now, and compares the starts. */
  async pumped(): Promise<void> {
    const now = Date.now();
    for (;;) {
      const started = this.jobs.filter(({ state }) => state === "started").length;
      const next = this.jobs.find(({ state, notBefore }) => state === "asleep" && notBefore <= now);
      if (started >= STARTED_MAX || next === undefined) break;
      Object.assign(next, { state: "started", run: next.run + 1, notBefore: 0 });
    }
    const expected = this.jobs.flatMap(({ id, run }) => Array.from({ length: run }, (_, i) => `${id}-${i + 1}`));
    await eventually(() => Promise.resolve(expect(this.starts.toSorted()).toEqual(expected.toSorted())));
  }

  async check(): Promise<void> {
    await this.pumped();
    const shown = await this.stub.list({ status: null, service: null, before: null, limit: 1_000 });
    const standing = this.jobs.filter(({ state }) => state !== "reserved");
    expect(shown.map(({ id, status }) => `${id} ${status}`)).toEqual(
      standing.map(({ id, status }) => `${id} ${status}`).toReversed(),
    );
    for (const batch of new Set(standing.flatMap(({ batch: of }) => of ?? []))) {
      const own = this.jobs.filter((job) => job.batch === batch);
      const isOver = own.every(({ state }) => state === "over");
      const view = await this.stub.batch(batch);
      expect(view?.jobs).toEqual(own.map(({ id }) => id));
      expect(view?.finishedAt !== null).toBe(isOver);
    }
  }
}

type Act =
  | { what: "reserve"; jobs: number; batch: boolean }
  | { what: "pass" }
  | { what: "restart" }
  | { what: "lose" }
  | { what: "forget halves" }
  | { what: "stand" | "release" | "run" | "end" | "cancel" | "pause"; pick: number };

const pick = fc.nat({ max: 50 });
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant("reserve" as const),
      jobs: fc.integer({ min: 1, max: 12 }),
      batch: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constantFrom("stand" as const, "stand" as const, "release" as const), pick }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constantFrom("run" as const, "end" as const, "cancel" as const, "pause" as const),
      pick,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom<Act>({ what: "pass" }, { what: "restart" }, { what: "lose" }, { what: "forget halves" }),
  },
);

const together = (world: World, job: Known): Known[] =>
  job.batch === null ? [job] : world.jobs.filter(({ batch }) => batch === job.batch);

async function end(world: World, job: Known, status: JobStatus): Promise<void> {
  Object.assign(job, { status, state: "over" });
  await world.stub.changed(job.id, status, null);
  // A repeated report has no further effect.
  await world.stub.changed(job.id, status, null);
}

async function perform(world: World, does: Act): Promise<void> {
  const { jobs, stub } = world;
  if (does.what === "reserve") {
    const batch = does.batch ? fresh("bat") : null;
    const ids = Array.from({ length: does.batch ? does.jobs : 1 }, () => fresh("job"));
    const waiting = jobs.filter(({ state, status }) => state !== "over" && status === "queued").length;
    const ask = () =>
      stub.reserve(
        ids.map((id) => world.newJob(id)),
        batch === null
          ? null
          : {
              id: batch,
              tenant: world.tenant,
              webhook: { url: "https://example.com/", secret: null, dialect: "native" },
            },
        { waiting: WAITING_MAX, concurrent: { s: CONCURRENT } },
      );
    const isRoom = waiting + ids.length <= WAITING_MAX;
    expect((await ask()).ok).toBe(isRoom);
    if (!isRoom) return;
    expect((await ask()).ok).toBe(true);
    for (const id of ids)
      jobs.push({ id, batch, state: "reserved", status: "queued", run: 0, reservedAt: Date.now(), notBefore: 0 });
    return;
  }
  if (does.what === "pass") {
    return world.later(PAUSE_MS);
  }
  if (does.what === "restart") {
    await evict(stub);
    await world.settle();
    return;
  }
  if (does.what === "forget halves") {
    return world.later(RESERVED_MS + 10_000);
  }
  if (does.what === "lose") {
    const lost = world.some("started", 0);
    if (lost === undefined) return;
    world.silent.add(lost.id);
    for (let look = 0; look < LOOKS_TO_LOSE && (await world.isAtWork(lost)); look++) {
      await world.later(10_000);
    }
    world.silent.delete(lost.id);
    // The job keeps its place in the queue; other jobs may have come due meanwhile.
    lost.state = "asleep";
    return;
  }
  const job = world.some(does.what === "stand" || does.what === "release" ? "reserved" : "started", does.pick);
  if (job === undefined) return;
  switch (does.what) {
    case "stand": {
      const ids = together(world, job).map(({ id }) => id);
      expect(await stub.stand(ids)).toBe(true);
      for (const one of together(world, job)) one.state = "asleep";
      expect(await stub.stand(ids)).toBe(true);
      return;
    }
    case "release": {
      const ids = together(world, job).map(({ id }) => id);
      await stub.release(ids);
      jobs.splice(0, jobs.length, ...jobs.filter(({ id }) => !ids.includes(id)));
      expect(await stub.stand(ids)).toBe(false);
      return;
    }
    case "run":
      job.status = "running";
      return stub.changed(job.id, "running", null);
    case "end":
      return end(world, job, "succeeded");
    case "cancel":
      return end(world, world.some("asleep", does.pick) ?? job, "canceled");
    case "pause": {
      const at = Date.now() + PAUSE_MS;
      Object.assign(job, { state: "asleep", status: "queued", notBefore: at });
      await stub.changed(job.id, "queued", { start: job.run, at });
      return;
    }
  }
}

test("no job is lost, started twice under one number or admitted beyond the limit, even across restarts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 30 }), async (acts) => {
      passTime(0);
      const world = new World();
      await world.settle();
      for (const does of acts) {
        await perform(world, does);
        await world.check();
      }
      // The webhook of each finished batch is enqueued once.
      const over = [...new Set(world.jobs.flatMap(({ batch }) => batch ?? []))].filter((batch) =>
        world.jobs.every((job) => job.batch !== batch || job.state === "over"),
      );
      await eventually(() =>
        Promise.resolve(expect(world.told.map(({ subject }) => subject.id).toSorted()).toEqual(over.toSorted())),
      );
    }),
    { numRuns: 30, endOnFailure: true },
  );
}, 90_000);

test("the end of a batch is reported until the Courier accepts it", async () => {
  const world = new World();
  await world.settle();
  world.courierFails = true;
  await perform(world, { what: "reserve", jobs: 2, batch: true });
  await perform(world, { what: "stand", pick: 0 });
  await world.check();
  for (const job of world.jobs) await end(world, job, "failed");
  passTime(20_000);
  await runDurableObjectAlarm(world.stub);
  expect(world.told).toEqual([]);
  world.courierFails = false;
  await evict(world.stub);
  await world.settle();
  passTime(20_000);
  await runDurableObjectAlarm(world.stub);
  const [batch] = world.jobs.map((job) => job.batch);
  expect(world.told).toMatchObject([{ subject: { kind: "batch", id: batch }, type: "batch.finished" }]);
  passTime(20_000);
  await runDurableObjectAlarm(world.stub);
  expect(world.told).toHaveLength(1);
});

test("deleting a tenant removes all of its jobs, in several steps if there are many", async () => {
  const world = new World();
  await world.settle();
  const ids = Array.from({ length: 600 }, () => fresh("job"));
  const limits = { waiting: 1_000, concurrent: { s: CONCURRENT } };
  await world.stub.reserve(
    ids.map((id) => world.newJob(id)),
    null,
    limits,
  );
  expect(await world.stub.forget()).toBe(false);
  expect(await world.stub.forget()).toBe(true);
  expect(await world.stub.forget()).toBe(true);
  await runInDurableObject(world.stub, async (_, { storage }) => {
    expect(await storage.getAlarm()).toBeNull();
  });
});

test(
  "a start that gets no answer does not keep later jobs from starting",
  async () => {
    const world = new World();
    const starts: string[] = [];
    await world.settle();
    const create = ({ id }: { id: string }): Promise<void> => {
      starts.push(id);
      return starts.length === 1 ? new Promise(() => undefined) : Promise.resolve();
    };
    await runInDurableObject(world.stub, (backlog) => {
      const { env: neighbours } = backlog as unknown as { env: object };
      Object.assign(backlog, { env: { ...neighbours, RUN_JOB: { create } } });
    });
    for (const id of ["job-a", "job-b"]) {
      await world.stub.reserve([world.newJob(id)], null, { waiting: WAITING_MAX, concurrent: { s: CONCURRENT } });
      await world.stub.stand([id]);
    }
    await vi.waitFor(() => expect(starts).toEqual(["job-a-1", "job-b-1"]), ANSWERED_MS_MAX);
  },
  2 * ANSWERED_MS_MAX,
);

test("a silent job is started again after 4 s more of silence in line, or 20 s while it runs", async () => {
  const world = new World();
  await world.settle();
  for (const status of ["queued", "running"] as const) {
    await perform(world, { what: "reserve", jobs: 1, batch: false });
    await perform(world, { what: "stand", pick: 0 });
    await world.check();
    const job = world.jobs.at(-1);
    if (job === undefined) throw new Error("no job");
    job.status = status;
    await world.stub.changed(job.id, status, null);
    world.silent.add(job.id);
  }
  const again = () => world.starts.filter((id) => id.endsWith("-2")).length;
  passTime(15_500);
  await runDurableObjectAlarm(world.stub);
  expect(again()).toBe(0);
  const next = await runInDurableObject(world.stub, (_, { storage }) => storage.getAlarm());
  expect((next ?? 0) - Date.now()).toBeLessThanOrEqual(4_000);
  passTime(4_500);
  await runDurableObjectAlarm(world.stub);
  await eventually(() => Promise.resolve(expect(again()).toBe(1)));
  passTime(16_000);
  await runDurableObjectAlarm(world.stub);
  await eventually(() => Promise.resolve(expect(again()).toBe(2)));
});

test("a retry pause that ends within a millisecond wakes the Backlog after its end, not before", async () => {
  const world = new World();
  await world.settle();
  await perform(world, { what: "reserve", jobs: 1, batch: false });
  await perform(world, { what: "stand", pick: 0 });
  await world.check();
  const [job] = world.jobs;
  if (job === undefined) throw new Error("no job");
  passTime(0);
  const alarm = () => runInDurableObject(world.stub, (_, { storage }) => storage.getAlarm());
  const at = Date.now() + 2_000.65;
  await world.stub.changed(job.id, "queued", { start: job.run, at });
  expect(await alarm()).toBe(Math.ceil(at));
  // Simulates an alarm that still fires early, within the millisecond in which the pause ends.
  passTime(2_000);
  await runDurableObjectAlarm(world.stub);
  expect(await alarm()).toBe(Math.ceil(at));
  passTime(1);
  await runDurableObjectAlarm(world.stub);
  await eventually(() => Promise.resolve(expect(world.starts).toEqual([`${job.id}-1`, `${job.id}-2`])));
});

test("the next call sets an overdue alarm again", async () => {
  const world = new World();
  const set: number[] = [];
  const late = {
    getAlarm: () => Promise.resolve(Date.now() - DAY_MS),
    setAlarm: (at: number) => Promise.resolve(void set.push(at)),
  };
  await runInDurableObject(world.stub, (_, { storage }) => void Object.assign(storage, late));
  await world.stub.reserve([world.newJob("job-late")], null, { waiting: WAITING_MAX, concurrent: {} });
  expect(set).toEqual([expect.closeTo(Date.now() + 10_000, -3)]);
});

/** Reserves and confirms jobs, as a submission does; returns their ids. */
async function handedIn(world: World, count: number, more: Partial<NewJob> = {}): Promise<string[]> {
  const jobs = Array.from({ length: count }, () => ({ ...world.newJob(fresh("job")), ...more }));
  const ids = jobs.map(({ id }) => id);
  await world.stub.reserve(jobs, null, { waiting: 1_000, concurrent: { s: CONCURRENT } });
  await world.stub.stand(ids);
  return ids;
}

/** Installs fake Jobs; `late` is what a Job answers when its start deadline has passed. */
async function toldLate(world: World, late: (id: string) => Promise<JobStatus | null>): Promise<void> {
  await runInDurableObject(world.stub, (backlog) => {
    const { env: neighbours } = backlog as unknown as { env: object };
    const JOB = {
      getByName: (id: string) => ({ late: () => late(id), pulse: () => ({ status: "queued", heardMsAgo: 0 }) }),
    };
    Object.assign(backlog, { env: { ...neighbours, JOB } });
  });
}

test("a raised cap starts sleeping jobs when a run reports it, and a lowered cap starts fewer", async () => {
  const world = new World();
  await world.settle();
  const [first = "", second = ""] = await handedIn(world, 50);
  const expectStarts = (count: number) => eventually(() => Promise.resolve(expect(world.starts).toHaveLength(count)));
  await expectStarts(STARTED_MAX);
  await world.stub.changed(first, "running", null, 30);
  await expectStarts(38);
  await world.stub.changed(first, "succeeded", null, CONCURRENT);
  await world.stub.changed(second, "succeeded", null, null);
  expect(await world.stub.place(second)).toMatchObject({ concurrent: CONCURRENT });
  expect(world.starts).toHaveLength(38);
});

test("all jobs that missed their start deadline fail in one check, and none of them starts", async () => {
  const world = new World();
  await world.settle();
  passTime(0);
  const ids = await handedIn(world, 180, { startDeadlineAt: Date.now() + 5_000 });
  await eventually(() => Promise.resolve(expect(world.starts).toHaveLength(STARTED_MAX)));
  const late: string[] = [];
  await toldLate(world, (id) => (late.push(id), Promise.resolve("failed")));
  passTime(5_000);
  // A job that ends makes room, but the deadline of the sleeping jobs has passed.
  await world.stub.changed(ids[0] ?? "", "succeeded", null);
  await runDurableObjectAlarm(world.stub);
  expect(late.toSorted()).toEqual(ids.slice(STARTED_MAX).toSorted());
  const failed = await world.stub.list({ status: "failed", service: null, before: null, limit: 1_000 });
  expect(failed).toHaveLength(170);
  expect(world.starts).toHaveLength(STARTED_MAX);
});

test("a late silent Job is asked again, one that has run stays, and an unknown one is removed", async () => {
  const world = new World();
  await world.settle();
  passTime(0);
  const ids = await handedIn(world, STARTED_MAX + 3, { startDeadlineAt: Date.now() + 5_000 });
  const [silent, ran = "", unknown = ""] = ids.slice(STARTED_MAX);
  await eventually(() => Promise.resolve(expect(world.starts).toHaveLength(STARTED_MAX)));
  await toldLate(world, (id) => {
    if (id === silent) return Promise.reject(new Error("overloaded"));
    return Promise.resolve(id === ran ? "queued" : null);
  });
  passTime(5_000);
  await runDurableObjectAlarm(world.stub);
  expect(await world.stub.stands(unknown)).toBeNull();
  await toldLate(world, () => Promise.resolve("failed"));
  for (const id of ids.slice(0, 2)) await world.stub.changed(id, "succeeded", null);
  await eventually(() => Promise.resolve(expect(world.starts.slice(STARTED_MAX)).toEqual([`${ran}-1`])));
  await runDurableObjectAlarm(world.stub);
  expect(await world.stub.list({ status: "failed", service: null, before: null, limit: 10 })).toMatchObject([
    { id: silent },
  ]);
});
