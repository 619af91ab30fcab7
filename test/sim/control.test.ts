import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { ask, must, pause } from "./wire.ts";

const PATH = "/sdapi/v1/txt2img";
const SMALL = { prompt: "sea", width: 8, height: 8, steps: 1, seed: 1 };

let park: Park;
beforeAll(async () => {
  park = await startPark({ service: { speed: 0 } });
});
beforeEach(async () => {
  await park.heal();
  park.setToken(null);
  park.reset();
});
afterAll(() => park.close());

async function call(
  method: string,
  path: string,
  json?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; value: unknown }> {
  const reply = await ask(park.control, {
    method,
    path,
    headers,
    ...(json === undefined ? {} : { json }),
  });
  return { status: reply.status, value: JSON.parse(reply.body.toString()) as unknown };
}

/** Status of every card's answer to the same request. */
function statuses(): Promise<number[]> {
  return Promise.all(park.cards.map(async ({ origin }) => (await ask(origin, { path: PATH, json: SMALL })).status));
}

describe("the control API", () => {
  it("lists every card with its counts, sensors, fault and heartbeats, and the totals", async () => {
    await ask(must(park.cards[2]).origin, { path: PATH, json: SMALL });
    const { value } = await call("GET", "/cards");
    expect(value).toMatchObject({ running: 0, highest: 1, starts: 1, done: 1, over: 0 });
    expect((value as { cards: unknown[] }).cards).toHaveLength(6);
    expect((value as { cards: unknown[] }).cards[2]).toMatchObject({
      card: "gpu-02-0",
      server: "gpu-02",
      gpu: 0,
      slots: 2,
      origin: must(park.cards[2]).origin,
      counts: { starts: 1 },
      fault: null,
      heartbeats: { on: false },
    });
  });

  it("sets and clears the fault of one card or of all cards", async () => {
    expect(await call("POST", "/cards/gpu-01-0/fault", { kind: "status", status: 503 })).toMatchObject({
      status: 200,
      value: { fault: { kind: "status", status: 503 } },
    });
    expect(await statuses()).toEqual([503, 200, 200, 200, 200, 200]);
    await call("POST", "/cards/*/fault", { kind: "status", status: 502 });
    expect(new Set(await statuses())).toEqual(new Set([502]));
    await call("DELETE", "/cards/gpu-03-1/fault");
    expect((await statuses()).at(-1)).toBe(200);
    await call("DELETE", "/cards/*/fault");
    expect(new Set(await statuses())).toEqual(new Set([200]));
  });

  it("changes single timing settings and keeps the others", async () => {
    await call("POST", "/service", { service_ms: 120, jitter: 0.2 });
    expect((await call("POST", "/service", { service_ms: null })).value).toMatchObject({
      speed: 0,
      jitter: 0.2,
      service_ms: null,
    });
    expect((await call("GET", "/service")).value).toEqual(park.service);
  });

  it("shows runs and request heads, sets the token, and resets", async () => {
    await call("POST", "/token", { client_id: "a", client_secret: "b", card: "gpu-01-1" });
    await Promise.all(park.cards.slice(0, 2).map(({ origin }) => ask(origin, { path: PATH, json: SMALL })));
    expect((await call("GET", "/runs?card=gpu-01-0")).value).toMatchObject({
      runs: [{ card: "gpu-01-0", path: PATH, ended: "done" }],
    });
    expect((await call("GET", "/heads?card=gpu-01-1")).value).toMatchObject({
      heads: [{ method: "POST", path: PATH }],
    });
    expect(park.counts()).toMatchObject({ starts: 1, refused: 1 });
    await call("POST", "/token", null);
    await call("POST", "/reset");
    expect((await call("GET", "/runs")).value).toEqual({ runs: [] });
  });

  it.each([
    ["POST", "/cards/gpu-09-0/fault", { kind: "hang" }, 404],
    ["POST", "/cards/gpu-01-0/fault", { kind: "hang", busyms: 1 }, 400],
    ["POST", "/service", { jitter: 3 }, 400],
    ["POST", "/heartbeats", { url: "nowhere" }, 400],
    ["GET", "/heads", undefined, 404],
    ["GET", "/nothing", undefined, 404],
  ])("answers %s %s %j with an error message", async (method, path, json, status) => {
    const outcome = await call(method, path, json);
    expect(outcome).toEqual({ status, value: { error: expect.any(String) } });
  });

  it("refuses requests from a browser page", async () => {
    expect((await call("POST", "/reset", undefined, { origin: "http://pages.example" })).status).toBe(403);
  });
});

describe("the command line", () => {
  const MAIN = fileURLToPath(new URL("../../sim/main.ts", import.meta.url));
  const NODE = fileURLToPath(new URL("../../node_modules/node/bin/node", import.meta.url));
  const started: ChildProcess[] = [];
  afterAll(() => started.forEach((child) => child.kill("SIGKILL")));

  async function start(...args: string[]): Promise<{
    child: ChildProcess;
    ready: { control: string; cards: { card: string; origin: string }[] };
  }> {
    const child = spawn(NODE, [MAIN, ...args], { stdio: ["pipe", "pipe", "inherit"] });
    started.push(child);
    const [line] = (await once(createInterface({ input: must(child.stdout) }), "line")) as [string];
    return {
      child,
      ready: JSON.parse(line) as { control: string; cards: { card: string; origin: string }[] },
    };
  }

  it("prints one line when all cards listen, applies its options, and ends when standard input closes", async () => {
    const { child, ready } = await start(
      "--servers",
      "1",
      "--gpus",
      "2",
      "--slots",
      "1",
      "--service-ms",
      "30",
      "--jitter",
      "0.1",
    );
    expect(ready.cards.map(({ card }) => card)).toEqual(["gpu-01-0", "gpu-01-1"]);
    const { origin } = must(ready.cards[1]);
    await Promise.all([1, 2].map((seed) => ask(origin, { path: PATH, json: { ...SMALL, seed } })));
    const reply = await ask(ready.control, { method: "GET", path: "/cards" });
    expect(JSON.parse(reply.body.toString())).toMatchObject({ done: 2, over: 1 });
    const ended = once(child, "exit");
    must(child.stdin).end();
    expect(await ended).toEqual([0, null]);
  });

  it("ends on SIGTERM while a run is under way", async () => {
    const { child, ready } = await start("--service-ms", "60000");
    const cut = ask(must(ready.cards[0]).origin, { path: PATH, json: SMALL });
    await pause(100);
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
    expect((await cut).whole).toBe(false);
  });

  it("refuses an option that must be a number and is not", async () => {
    const child = spawn(NODE, [MAIN, "--speed", "fast"], { stdio: ["pipe", "ignore", "ignore"] });
    started.push(child);
    const [code] = (await once(child, "exit")) as [number];
    expect(code).not.toBe(0);
  });
});
