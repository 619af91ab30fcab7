import { createServer } from "node:http";
import type { Server } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { portOf } from "../../sim/listener.ts";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { ask, must, pause, until } from "./wire.ts";

interface Beat {
  readonly at: number;
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly authorization: string | undefined;
  readonly body: {
    readonly running: number;
    readonly gpu_memory_ratio: number;
    readonly gpu_utilization: number;
    readonly at: string;
  };
}

let park: Park;
let door: Server;
let url: string;
let beats: Beat[] = [];
let status = 204;
let silent = false;

beforeAll(async () => {
  park = await startPark({ servers: 1, gpus: 2, service: { service_ms: 300 } });
  door = createServer((req, res) => {
    const parts: Buffer[] = [];
    req.on("data", (part: Buffer) => parts.push(part));
    req.on("end", () => {
      beats.push({
        at: performance.now(),
        method: req.method,
        url: req.url,
        authorization: req.headers.authorization,
        body: JSON.parse(Buffer.concat(parts).toString()) as Beat["body"],
      });
      if (!silent) res.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => door.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${portOf(door)}`;
});
beforeEach(async () => {
  park.heartbeat(null);
  silent = false;
  status = 204;
  await until(() => park.counts().running === 0);
  await pause(60);
  park.reset();
  beats = [];
});
afterAll(async () => {
  await park.close();
  door.closeAllConnections();
  door.close();
});

const TOKENS = { "gpu-01-0": "tok-a", "gpu-01-1": "tok-b" };

describe("heartbeats", () => {
  it("go to each card's own path with its own token, at once and then at the set interval", async () => {
    park.heartbeat({ url, tokens: TOKENS, every_ms: 100 });
    await pause(350);
    const own = beats.filter((beat) => beat.url === "/admin/v1/cards/gpu-01-0/heartbeat");
    expect(own.length).toBeGreaterThanOrEqual(3);
    expect(own.length).toBeLessThanOrEqual(5);
    expect(own.every((beat) => beat.method === "POST" && beat.authorization === "Bearer tok-a")).toBe(true);
    expect(
      beats.some((beat) => beat.url === "/admin/v1/cards/gpu-01-1/heartbeat" && beat.authorization === "Bearer tok-b"),
    ).toBe(true);
    const { body } = must(own[0]);
    expect(body.running).toBe(0);
    expect(body.gpu_memory_ratio).toBeGreaterThan(0);
    expect(body.gpu_utilization).toBeLessThan(0.9);
    expect(Math.abs(Date.parse(body.at) - Date.now())).toBeLessThan(5_000);
  });

  it("report a change of running at once, but at most once per change_ms, and end with the final value", async () => {
    park.heartbeat({ url, tokens: { "gpu-01-0": "tok-a" }, every_ms: 60_000, change_ms: 150 });
    await until(() => beats.length === 1);
    await pause(200);
    const { origin } = must(park.cards[0]);
    const json = { prompt: "sea", width: 8, height: 8, steps: 1, seed: 1 };
    const started = performance.now();
    const running = [
      ask(origin, { path: "/sdapi/v1/txt2img", json }),
      ask(origin, { path: "/sdapi/v1/txt2img", json }),
    ];
    await until(() => beats.length === 2);
    expect(must(beats[1]).at - started).toBeLessThan(120);
    expect(must(beats[1]).body.running).toBeGreaterThan(0);
    await Promise.all(running);
    await pause(400);
    expect(must(beats.at(-1)).body.running).toBe(0);
    const gaps = beats.slice(1).map((beat, i) => beat.at - must(beats[i]).at);
    expect(Math.min(...gaps)).toBeGreaterThan(120);
  });

  it("count ghosts as running, because the GPU still works on them", async () => {
    park.heartbeat({ url, tokens: { "gpu-01-0": "tok-a" }, every_ms: 40 });
    const { origin } = must(park.cards[0]);
    await ask(origin, {
      path: "/sdapi/v1/txt2img",
      json: { width: 8, height: 8, steps: 1, seed: 1 },
      forMs: 60,
    });
    await until(() => park.counts().left === 1);
    const from = beats.length;
    await pause(100);
    expect(beats.slice(from + 1).map((beat) => beat.body.running)).toContain(1);
    expect(must(beats.at(-1)).body.running).toBe(1);
  });

  it("count and show failures, which do not affect the card", async () => {
    status = 401;
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(0, "127.0.0.1", resolve));
    const nobody = `http://127.0.0.1:${portOf(dead)}`;
    await new Promise((resolve) => dead.close(resolve));
    park.heartbeat({ url, tokens: { "gpu-01-0": "wrong" }, every_ms: 40 });
    await pause(120);
    expect(must(park.reports()[0]).heartbeats).toMatchObject({ on: true, last_status: 401 });
    expect(must(park.reports()[0]).heartbeats.failed).toBeGreaterThan(1);
    park.heartbeat({ url: `${nobody}/x/{card}`, tokens: { "gpu-01-0": "tok" }, every_ms: 40 });
    await until(() => /ECONNREFUSED/.test(must(park.reports()[0]).heartbeats.last_error ?? ""));
    expect((await ask(must(park.cards[0]).origin, { method: "GET", path: "/sdapi/v1/samplers" })).status).toBe(200);
  });

  it("wait for the previous answer and never pile up", async () => {
    silent = true;
    park.heartbeat({ url, tokens: { "gpu-01-0": "tok-a" }, every_ms: 20 });
    await pause(250);
    expect(beats).toHaveLength(1);
  });

  it("stop for cards without a token", async () => {
    park.heartbeat({ url: `${url}/hb/{card}`, tokens: TOKENS, every_ms: 30 });
    await until(() => beats.some((beat) => beat.url === "/hb/gpu-01-1"));
    park.heartbeat({ url, tokens: { "gpu-01-0": "tok-a" }, every_ms: 30 });
    await pause(60);
    beats = [];
    await pause(120);
    expect(new Set(beats.map((beat) => beat.url))).toEqual(new Set(["/admin/v1/cards/gpu-01-0/heartbeat"]));
    expect(park.reports().map((card) => card.heartbeats.on)).toEqual([true, false]);
  });
});
