import { expect, test } from "vitest";
import { openLine } from "./line.ts";

const line = openLine();
const LOOKS = 40;
const PAUSE_MS = 60;

interface Live {
  id: string;
  live: { running: number; in_use: number; counters: Record<string, number> } | null;
}

/** The status of every card, each from one read. */
async function look(): Promise<Live[]> {
  return (await line.portico.admin<{ data: Live[] }>("GET", "/cards")).data;
}

test("admitted = done + failed + orphaned + running at every look, through hang-ups and failures", async () => {
  const service = await line.service({ abandon: "cancel", retry: { tries: 2 }, breaker: { max_fails: 1_000 } });
  const key = await line.key({ limits: { concurrent: 100, waiting: 1_000 } });
  // Cards that stop when their caller disconnects, as `cancel` requires.
  line.park.setService({ service_ms: 120, ghost: false });
  await line.park.setFault("gpu-01-0", { kind: "status", status: 500 });
  await line.park.setFault("gpu-02-1", { kind: "reset" });
  const end = new AbortController();
  const crowd = Array.from({ length: 20 }, async (_, who) => {
    for (let turn = 0; !end.signal.aborted; turn++) {
      const caller = await line.call({ service, key });
      if ((who + turn) % 3 === 0) setTimeout(() => caller.hangUp(), 80);
      await caller.answered.catch(() => undefined);
    }
  });
  for (let i = 0; i < LOOKS; i++) {
    for (const { id, live } of await look()) {
      const { claims, done, failed, orphaned } = live?.counters ?? {};
      expect({ id, sum: (done ?? 0) + (failed ?? 0) + (orphaned ?? 0) + (live?.running ?? 0) }).toEqual({
        id,
        sum: claims,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  end.abort();
  await Promise.all(crowd);
  await line.park.heal();
  await line.conserved();
  const all = await look();
  expect(all.reduce((sum, { live }) => sum + (live?.counters["failed"] ?? 0), 0)).toBeGreaterThan(0);
});
