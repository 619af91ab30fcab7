import { expect, test } from "vitest";
import { eventually } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine({ child: true });
const SLOTS = 12;
/** One lease life, the drain, and the time a loaded machine may take. */
const OVER_MS_MAX = 90_000;
const TEST_MS_MAX = 180_000;
/** How long a run continues after its caller has gone. */
const ABANDONED_S = 25;

/** Sends a request that may take as long as a lease lives. */
async function patient(
  service: Service,
  key: string,
  prompt: string,
  seed?: number,
): Promise<{ status: number; cache: string | null; text: string }> {
  const answer = await fetch(line.portico.url + service.path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ prompt, width: 32, height: 32, steps: 1, ...(seed === undefined ? {} : { seed }) }),
    signal: AbortSignal.timeout(OVER_MS_MAX),
  });
  return { status: answer.status, cache: answer.headers.get("cache-status"), text: await answer.text() };
}

test(
  "every lease ends: after kill -9 and a restart no slot is exceeded or lost, and stored results are kept",
  async () => {
    const service = await line.service({ queue: { timeout_s: 90 }, drain: { max_s: 3 } });
    const key = await line.key();
    line.park.setService({ service_ms: 50 });
    const before = await patient(service, key, "from before", 8);
    expect(before).toMatchObject({ status: 200, cache: "portico; fwd=miss; stored" });
    // Longer than a restart takes: runs of the killed runtime are still at work when it is back.
    line.park.setService({ service_ms: 15_000 });
    const lost = await line.call({ service, key, headers: { "x-request-id": "lost" } });
    const running = [lost, ...(await line.calls(SLOTS - 1, { service, key }))];
    await line.running(running);
    expect((await line.became("lost", key))?.state).toBe("running");
    const waiting = await line.calls(8, { service, key });
    await eventually("eight wait", async () => (await line.queued(service)) === 8);
    const diedAt = Date.now();
    await line.portico.kill9();
    await eventually("the cards have seen it", () => line.park.counts().left === SLOTS);
    await line.portico.restart();
    line.park.setService({ service_ms: 100 });
    expect(line.park.counts().running, "the ghosts are still at work").toBe(SLOTS);
    expect(await line.leases()).toHaveLength(SLOTS);
    expect(await patient(service, key, "from before", 8)).toMatchObject({
      status: 200,
      cache: expect.stringMatching(/^portico; hit/),
      text: before.text,
    });
    const later = await Promise.all(Array.from({ length: 30 }, (_, i) => patient(service, key, `after ${i}`)));
    expect(later.map(({ status }) => status)).toEqual(later.map(() => 200));
    expect(Date.now() - diedAt).toBeLessThan(OVER_MS_MAX);
    expect(line.park.counts()).toMatchObject({ over: 0, ghosts: SLOTS, starts: 1 + SLOTS + 30 });
    // Requests that were in line when the runtime died never start.
    expect(waiting.filter((caller) => line.starts(caller) > 0)).toEqual([]);
    await line.fillsUp();
    const failed = async () => (await line.became("lost", key))?.state === "failed";
    await eventually("what was lost is told as failed", failed, OVER_MS_MAX);
  },
  TEST_MS_MAX,
);

test(
  "finish: a run is read for 25 s after its caller has gone and no longer; then its slot drains",
  async () => {
    const service = await line.service({ abandon: "finish", drain: { max_s: 3 } });
    const key = await line.key();
    line.park.setService({ service_ms: (ABANDONED_S + 2) * 1_000 });
    const caller = await line.call({ service, key, headers: { "x-request-id": "abandoned" } });
    await line.running([caller]);
    const goneAt = Date.now();
    caller.hangUp();
    await eventually("it is given up", () => line.park.counts().left === 1, OVER_MS_MAX);
    expect(Date.now() - goneAt).toBeGreaterThan((ABANDONED_S - 1) * 1_000);
    await eventually("its slot drains", async () => (await line.leases())[0]?.state === "draining");
    expect(await line.became("abandoned", key)).toMatchObject({ state: "canceled", results: [] });
    await line.conserved();
    expect(line.park.counts()).toMatchObject({ starts: 1, ghosts: 1 });
  },
  TEST_MS_MAX,
);
