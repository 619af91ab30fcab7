import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { ask, must, pause, until, write } from "./wire.ts";

const PATH = "/sdapi/v1/txt2img";
const SMALL = { prompt: "sea", width: 16, height: 16, steps: 1, seed: 1 };
const SPEECH = "/AIVoice/TTS/CosyVoice2/audio-generate";

let park: Park;
beforeAll(async () => {
  park = await startPark();
});
beforeEach(async () => {
  await until(() => park.counts().running === 0);
  park.setService({ speed: 1, service_ms: 200, jitter: 0, ghost: true });
  park.reset();
});
afterAll(() => park.close());

function origin(card: number): string {
  return must(park.cards[card]).origin;
}
function paint(card: number, seed = 1, id = "r"): ReturnType<typeof ask> {
  return ask(origin(card), {
    path: PATH,
    headers: { "x-request-id": id },
    json: { ...SMALL, seed },
  });
}
function hangUp(card: number, afterMs: number, how: "reset" | "close" = "reset"): Promise<void> {
  const socket = write(origin(card), { path: PATH, json: SMALL });
  socket.on("error", () => undefined);
  return pause(afterMs).then(() => {
    if (how === "reset") socket.resetAndDestroy();
    else socket.destroy();
  });
}

/** A user that sends the next request as soon as it has an answer. */
async function comeBack(times: number): Promise<void> {
  for (let i = 0; i < times; i++) await paint(0, i % 5);
}

/** A user that goes from card to card and hangs up on every fourth request. */
async function useImpatiently(n: number): Promise<void> {
  for (let i = 0; i < 12; i++) {
    if ((n + i) % 4 === 0) await hangUp((n * 7 + i) % 6, 15);
    else await paint((n * 7 + i) % 6, n * 100 + i);
  }
}

/** The most concurrent runs, computed from start and end times, to check `highest`. */
function overlap(card?: string): number {
  const runs = park.runs(card);
  const marks = runs.flatMap((run) => [
    { at: run.started_at, by: 1 },
    { at: run.ended_at ?? Infinity, by: -1 },
  ]);
  let now = 0;
  return marks.toSorted((a, b) => a.at - b.at || a.by - b.by).reduce((most, { by }) => Math.max(most, (now += by)), 0);
}

describe("a card", () => {
  it("accepts a third request and counts it as over", async () => {
    await Promise.all([paint(0, 1), paint(0, 2), paint(0, 3)]);
    const counts = must(park.counts().cards["gpu-01-0"]);
    expect(counts).toMatchObject({ running: 0, highest: 3, over: 1, starts: 3, done: 3 });
    expect(park.runs("gpu-01-0").filter(({ over }) => over)).toHaveLength(1);
  });

  it("frees its slot before the last byte of the answer, so that an immediate next request is never over", async () => {
    park.setService({ service_ms: 5 });
    await Promise.all([comeBack(60), comeBack(60)]);
    expect(park.counts()).toMatchObject({ starts: 120, done: 120, over: 0 });
    expect(must(park.counts().cards["gpu-01-0"]).highest).toBe(2);
  });

  it.each(["reset", "close"] as const)(
    "works on after its caller hung up (%s), and its slot stays busy until the end",
    async (how) => {
      await hangUp(0, 50, how);
      await until(() => park.counts().left === 1);
      expect(park.counts()).toMatchObject({ running: 1, ghosts: 0 });
      await paint(0, 2);
      await until(() => park.counts().running === 0);
      expect(park.counts()).toMatchObject({
        starts: 2,
        done: 1,
        ghosts: 1,
        left: 1,
        highest: 2,
        over: 0,
      });
      const run = must(park.runs().find(({ ended }) => ended === "ghost"));
      const took = must(run.ended_at) - run.started_at;
      expect(took).toBeGreaterThan(198);
      expect(took).toBeLessThan(400);
      expect(Math.abs(must(run.left_at) + park.counts().ghost_ms - must(run.ended_at))).toBeLessThan(2);
    },
  );

  it("stops when its caller hangs up if `ghost` is false", async () => {
    park.setService({ ghost: false });
    await hangUp(0, 50);
    await until(() => park.counts().stopped === 1);
    const run = must(park.runs()[0]);
    expect(must(run.ended_at) - run.started_at).toBeLessThan(150);
    expect(park.counts()).toMatchObject({ running: 0, ghosts: 0, left: 1 });
  });

  it("continues a stream at its pace after the caller has left", async () => {
    park.setService({ service_ms: 300 });
    const socket = write(origin(0), {
      path: SPEECH,
      json: { text: "one two three four five six", stream: true },
    });
    socket.once("data", () => socket.resetAndDestroy());
    await until(() => park.counts().left === 1);
    expect(park.counts().running).toBe(1);
    await until(() => park.counts().running === 0);
    const run = must(park.runs()[0]);
    expect(run.ended).toBe("ghost");
    expect(must(run.ended_at) - run.started_at).toBeGreaterThan(298);
  });

  it("starts no run for a request whose body is incomplete", async () => {
    const socket = write(origin(0), {
      path: PATH,
      headers: { "content-length": "500", "content-type": "application/json" },
      body: Buffer.from("{"),
    });
    await pause(50);
    socket.resetAndDestroy();
    await pause(50);
    expect(park.counts().starts).toBe(0);
  });

  it("records request id, path, seed and prompt of each run", async () => {
    await paint(3, 77, "req-abc");
    expect(must(park.runs()[0])).toMatchObject({
      card: "gpu-02-1",
      id: "req-abc",
      path: PATH,
      seed: 77,
      prompt: "sea",
      ended: "done",
      over: false,
    });
    expect(must(park.counts().cards["gpu-02-1"]).starts_by_route).toEqual({ [PATH]: 1 });
  });
});

describe("the park", () => {
  it("has six cards on three servers, each on its own port", () => {
    expect(park.cards.map(({ card, server, gpu, slots }) => [card, server, gpu, slots])).toEqual([
      ["gpu-01-0", "gpu-01", 0, 2],
      ["gpu-01-1", "gpu-01", 1, 2],
      ["gpu-02-0", "gpu-02", 0, 2],
      ["gpu-02-1", "gpu-02", 1, 2],
      ["gpu-03-0", "gpu-03", 0, 2],
      ["gpu-03-1", "gpu-03", 1, 2],
    ]);
    expect(new Set(park.cards.map((card) => card.origin)).size).toBe(6);
  });

  it("has counts that match its list of runs under load with hang-ups", async () => {
    park.setService({ service_ms: 40, jitter: 0.3 });
    await Promise.all(Array.from({ length: 20 }, (_, n) => useImpatiently(n)));
    await until(() => park.counts().running === 0);
    const counts = park.counts();
    expect(counts.starts).toBe(240);
    expect(counts.done + counts.ghosts).toBe(240);
    // On a busy machine a run may end before its caller hangs up.
    expect(counts.ghosts).toBe(counts.left);
    expect(counts.ghosts).toBeGreaterThan(30);
    expect(counts.highest).toBe(overlap());
    for (const [card, { highest, over }] of Object.entries(counts.cards)) {
      expect([card, highest]).toEqual([card, overlap(card)]);
      expect([card, over]).toEqual([card, park.runs(card).filter((run) => run.over).length]);
    }
    const worked = park.runs().reduce((sum, run) => sum + must(run.ended_at) - run.started_at, 0);
    expect(Math.abs(counts.busy_ms - worked)).toBeLessThan(10);
  });

  it("keeps the timing of the other cards while a large picture is drawn", async () => {
    park.setService({ service_ms: 50 });
    const large = ask(origin(5), {
      path: PATH,
      json: { prompt: "forest", width: 2048, height: 2048, steps: 8, seed: 5 },
    });
    for (let i = 0; i < 8; i++) {
      await paint(0, i % 5);
      const run = must(park.runs("gpu-01-0").at(-1));
      expect(must(run.ended_at) - run.started_at).toBeLessThan(150);
    }
    expect((await large).status).toBe(200);
  });

  it("shows memory and utilization that rise with load and fall afterwards", async () => {
    const read = (): number[] =>
      park
        .reports()
        .slice(0, 1)
        .flatMap((card) => [card.gpu_memory_ratio, card.gpu_utilization]);
    // Let earlier runs cool down first.
    const IDLE = 0.33;
    for (let waited = 0; (read()[0] ?? 1) > IDLE && waited < 10_000; waited += 100) await pause(100);
    const [memory = 0, utilization = 0] = read();
    expect(memory).toBeLessThanOrEqual(IDLE);
    park.setService({ service_ms: 700 });
    const running = [paint(0, 1), paint(0, 2)];
    await pause(600);
    const [higher = 0, busier = 0] = read();
    expect(higher).toBeGreaterThan(memory + 0.08);
    expect(busier).toBeGreaterThan(utilization + 0.2);
    await Promise.all(running);
    await pause(500);
    expect(read()[1]).toBeLessThan(busier);
  });

  it("rejects invalid options", () => {
    expect(() => park.setService({ jitter: 2 })).toThrow();
    expect(() => park.setService({ speed: -1 })).toThrow();
    expect(() => park.heads("gpu-99-0")).toThrow("there is no card gpu-99-0");
  });
});
