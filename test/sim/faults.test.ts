import { request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import type { FaultInput } from "../../sim/faults.ts";
import { ask, header, must, pause, until, write } from "./wire.ts";
import type { Reply } from "./wire.ts";

const CARD = "gpu-01-0";
const PAINT = "/sdapi/v1/txt2img";
const SPEAK = "/AIVoice/TTS/CosyVoice2/audio-generate";
const READ = "/sdapi/v1/samplers";
const SMALL = { prompt: "sea", width: 64, height: 64, steps: 1, seed: 1 };
const SPOKEN = { text: "one two three", stream: true };

let park: Park;
let origin: string;
beforeAll(async () => {
  park = await startPark({ servers: 1, gpus: 2 });
  origin = must(park.cards[0]).origin;
});
beforeEach(async () => {
  await park.heal();
  await until(() => park.counts().running === 0);
  park.setService({ speed: 0, service_ms: null, ghost: true });
  park.reset();
});
afterAll(() => park.close());

function paint(forMs?: number): Promise<Reply> {
  return ask(origin, { path: PAINT, json: SMALL, ...(forMs === undefined ? {} : { forMs }) });
}
function speak(forMs?: number): Promise<Reply> {
  return ask(origin, { path: SPEAK, json: SPOKEN, ...(forMs === undefined ? {} : { forMs }) });
}
async function spoil(fault: FaultInput): Promise<void> {
  await park.setFault(CARD, fault);
}
function counts(): ReturnType<Park["counts"]> {
  return park.counts();
}

describe("status", () => {
  it.each([500, 502, 503, 504, 418])("answers %i at once to every request, and the run has failed", async (status) => {
    park.setService({ service_ms: 3_000 });
    await spoil({ kind: "status", status, body: '{"no":"luck"}' });
    const [run, read] = await Promise.all([paint(), ask(origin, { method: "GET", path: READ })]);
    expect([run.status, read.status, run.body.toString()]).toEqual([status, status, '{"no":"luck"}']);
    expect(must(run.arrivals[0])).toBeLessThan(1_000);
    expect(counts()).toMatchObject({ starts: 1, failed: 1, running: 0 });
    expect(must(park.runs()[0])).toMatchObject({ ended: "fault", path: PAINT });
  });

  it("can come at the end, after the GPU has worked", async () => {
    park.setService({ service_ms: 120 });
    await spoil({ kind: "status", status: 500, at: "end" });
    for (const reply of await Promise.all([paint(), speak()])) {
      expect(reply.status).toBe(500);
      expect(must(reply.arrivals[0])).toBeGreaterThan(115);
    }
    expect(counts()).toMatchObject({ starts: 2, failed: 2, running: 0 });
  });
});

describe("a fault", () => {
  it("is limited by `times`", async () => {
    await spoil({ kind: "status", status: 503, times: 2 });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await paint()).status);
    expect(statuses).toEqual([503, 503, 200, 200]);
    expect(must(park.reports()[0]).fault).toBeNull();
  });

  it("is limited to the named paths and to one card", async () => {
    await spoil({ kind: "status", status: 503, paths: ["/txt2img"] });
    expect((await paint()).status).toBe(503);
    expect((await speak()).status).toBe(200);
    expect((await ask(must(park.cards[1]).origin, { path: PAINT, json: SMALL })).status).toBe(200);
  });

  it("is random if a probability is given", async () => {
    await spoil({ kind: "status", status: 503, probability: 0.5 });
    const statuses = await Promise.all(
      Array.from({ length: 60 }, async () => (await ask(origin, { method: "GET", path: READ })).status),
    );
    expect(new Set(statuses)).toEqual(new Set([200, 503]));
  });

  it.each([
    { kind: "nonsense" },
    { kind: "slow" },
    { kind: "refuse", times: 2 },
    { kind: "status", status: 99 },
    { kind: "stall", fraction: 2 },
  ])("is rejected if it is invalid: %j", async (fault) => {
    await expect(park.setFault(CARD, fault as FaultInput)).rejects.toThrow();
  });
});

describe("refuse", () => {
  it("closes the listening socket, and healing opens it again on the same port", async () => {
    await spoil({ kind: "refuse" });
    expect((await paint()).end).toBe("refused");
    await park.heal(CARD);
    expect(must(park.cards[0]).origin).toBe(origin);
    expect((await paint()).status).toBe(200);
    expect(counts()).toMatchObject({ starts: 1 });
  });

  it("lets active runs finish and closes kept-alive connections", async () => {
    park.setService({ service_ms: 150 });
    const running = ask(origin, {
      path: PAINT,
      json: SMALL,
      headers: { connection: "keep-alive" },
    });
    await until(() => counts().running === 1);
    await spoil({ kind: "refuse" });
    expect(await running).toMatchObject({ status: 200, whole: true, end: "closed" });
    expect(counts()).toMatchObject({ done: 1 });
  });

  it("resets a connection whose request was still incomplete", async () => {
    const socket = connect(Number(new URL(origin).port), "127.0.0.1");
    const ended = new Promise<string | undefined>((resolve) =>
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code)),
    );
    socket.write(`GET ${READ} HTTP/1.1\r\n`);
    await pause(60);
    await spoil({ kind: "refuse" });
    socket.write("host: x\r\n\r\n");
    expect(await ended).toBe("ECONNRESET");
  });

  it("with kill cuts active runs, as a dying process does", async () => {
    park.setService({ service_ms: 2_000 });
    const running = paint();
    await until(() => counts().running === 1);
    await spoil({ kind: "refuse", kill: true });
    expect((await running).end).toBe("reset");
    expect(counts()).toMatchObject({ running: 0, failed: 1, ghosts: 0 });
  });

  it("flap goes down and up again until it is healed", async () => {
    await spoil({ kind: "flap", down_ms: 80, up_ms: 80 });
    const seen: string[] = [];
    for (const end = performance.now() + 450; performance.now() < end; await pause(5)) {
      const now = (await ask(origin, { method: "GET", path: READ })).status === 200 ? "up" : "down";
      if (seen.at(-1) !== now) seen.push(now);
    }
    expect(seen.slice(0, 4)).toEqual(["down", "up", "down", "up"]);
    await park.heal(CARD);
    await pause(200);
    expect((await paint()).status).toBe(200);
  });
});

describe("reset", () => {
  it("at the start sends RST before anything else", async () => {
    await spoil({ kind: "reset" });
    expect(await paint()).toMatchObject({ end: "reset", status: 0 });
    expect(counts()).toMatchObject({ starts: 1, failed: 1 });
  });

  it("after a delay ends the connection and the run, or only the connection", async () => {
    park.setService({ service_ms: 250 });
    await spoil({ kind: "reset", at: "after", after_ms: 60 });
    expect(await paint()).toMatchObject({ end: "reset", status: 0 });
    expect(counts()).toMatchObject({ running: 0, failed: 1, ghosts: 0 });
    await spoil({ kind: "reset", at: "after", after_ms: 60, goes_on: true });
    expect(await paint()).toMatchObject({ end: "reset", status: 0 });
    await until(() => counts().left === 1);
    expect(counts().running).toBe(1);
    await until(() => counts().running === 0);
    expect(counts()).toMatchObject({ failed: 1, ghosts: 1 });
  });

  it("in the body breaks off after part of it", async () => {
    await spoil({ kind: "reset", at: "body", fraction: 0.5 });
    for (const reply of [await paint(), await speak()]) {
      expect(reply).toMatchObject({ status: 200, end: "reset", whole: false });
      expect(reply.body.length).toBeGreaterThan(1_000);
    }
    expect(counts()).toMatchObject({ failed: 2, running: 0 });
  });
});

describe("hang", () => {
  it("never answers, and holds the slot until the caller leaves", async () => {
    await spoil({ kind: "hang" });
    const reply = paint(250);
    await until(() => counts().running === 1);
    expect(await reply).toMatchObject({ end: "open", status: 0, arrivals: [] });
    await until(() => counts().running === 0);
    expect(counts()).toMatchObject({ failed: 1, left: 1 });
  });

  it("with busy_ms holds the slot for that long, even if the caller leaves", async () => {
    await spoil({ kind: "hang", busy_ms: 300 });
    await paint(100);
    expect(counts().running).toBe(1);
    await until(() => counts().running === 0);
    const run = must(park.runs()[0]);
    expect(must(run.ended_at) - run.started_at).toBeGreaterThan(298);
  });
});

describe("slow and broken answers", () => {
  it("slow: multiplies the service time", async () => {
    park.setService({ service_ms: 50 });
    await spoil({ kind: "slow", factor: 4 });
    expect(must((await paint()).arrivals[0])).toBeGreaterThan(195);
    expect(counts()).toMatchObject({ done: 1, failed: 0 });
  });

  it("trickle: sends a complete answer a few bytes at a time", async () => {
    await spoil({ kind: "trickle", bytes_per_s: 12_000 });
    const reply = await paint();
    expect(reply).toMatchObject({ status: 200, whole: true });
    expect(reply.arrivals.length).toBeGreaterThan(5);
    expect(must(reply.arrivals.at(-1)) - must(reply.arrivals[0])).toBeGreaterThan((reply.body.length / 12_000) * 700);
  });

  it("truncate by length: sends fewer bytes than Content-Length, then FIN", async () => {
    await spoil({ kind: "truncate" });
    for (const reply of [await paint(), await speak()]) {
      expect(reply).toMatchObject({ status: 200, end: "closed", whole: false });
      expect(reply.body.length).toBe(Math.floor(Number(header(reply, "content-length")) / 2));
    }
    expect(counts()).toMatchObject({ failed: 2, done: 0 });
  });

  it("truncate by chunk: never sends the last chunk", async () => {
    await spoil({ kind: "truncate", how: "chunked", fraction: 0.3 });
    for (const reply of [await paint(), await speak()]) {
      expect([header(reply, "transfer-encoding"), header(reply, "content-length")]).toEqual(["chunked", null]);
      expect(reply).toMatchObject({ end: "closed", whole: false });
    }
  });

  it("truncate by content: the HTTP message is complete, but its content is cut", async () => {
    await spoil({ kind: "truncate", how: "content" });
    const reply = await paint();
    expect(reply).toMatchObject({ status: 200, whole: true });
    expect(() => JSON.parse(reply.body.toString()) as unknown).toThrow();
    expect((await ask(origin, { path: SPEAK, json: { text: "hello" } })).body.readUInt32LE(40)).toBeGreaterThan(10_000);
    expect(await speak()).toMatchObject({ whole: true });
  });

  it("stall: sends headers and some bytes, then holds the slot in silence until the caller leaves", async () => {
    await spoil({ kind: "stall", fraction: 0.4 });
    for (const call of [paint, speak]) {
      park.reset();
      const reply = await call(350);
      expect(reply).toMatchObject({ status: 200, end: "open", whole: false });
      expect(reply.body.length).toBeGreaterThan(500);
      await until(() => counts().running === 0);
      expect(counts()).toMatchObject({ failed: 1, left: 1 });
      const run = must(park.runs()[0]);
      expect(must(run.ended_at) - run.started_at).toBeGreaterThan(200);
    }
  });

  it("stall with ms: continues afterwards and completes", async () => {
    await spoil({ kind: "stall", ms: 150 });
    for (const reply of [await paint(), await speak()]) {
      expect(reply).toMatchObject({ status: 200, whole: true });
      expect(must(reply.arrivals.at(-1)) - must(reply.arrivals[0])).toBeGreaterThan(140);
    }
  });

  it("not_json: sends HTML with status 200", async () => {
    await spoil({ kind: "not_json" });
    const reply = await paint();
    expect([reply.status, header(reply, "content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(reply.body.toString()).toContain("<html>");
    expect(counts()).toMatchObject({ starts: 1, failed: 1 });
  });

  it.each(["bytes", "base64", "cut", "none"] as const)(
    "bad_image: sends a well-formed answer with a broken image or none (%s)",
    async (how) => {
      await spoil({ kind: "bad_image", how });
      const { images } = JSON.parse((await paint()).body.toString()) as { images: string[] };
      const signature = Buffer.from(images[0] ?? "", "base64").toString("latin1", 1, 4);
      expect([images.length, signature === "PNG"]).toEqual(
        how === "none" ? [0, false] : [1, how === "cut" || how === "base64"],
      );
      if (how === "base64") expect(images[0]).toMatch(/[^A-Za-z0-9+/=]/);
      if (how === "cut") expect(Buffer.from(must(images[0]), "base64").includes("IEND")).toBe(false);
      expect(counts()).toMatchObject({ failed: 1 });
    },
  );

  it("bad_image: sends text instead of a sound", async () => {
    await spoil({ kind: "bad_image" });
    expect((await ask(origin, { path: SPEAK, json: { text: "x" } })).body.toString()).toBe("not a sound");
  });

  it("huge_header: sends a head of over 70 KiB, which Node's HTTP client rejects", async () => {
    await spoil({ kind: "huge_header" });
    const reply = await paint();
    expect([reply.status, reply.whole, reply.head.length > 70 * 1024]).toEqual([200, true, true]);
    const error = await new Promise<NodeJS.ErrnoException>((resolve) =>
      request(`${origin}${READ}`).on("error", resolve).end(),
    );
    expect(error.code).toBe("HPE_HEADER_OVERFLOW");
  });
});

describe("a fault in front of the card", () => {
  it.each([
    ["tunnel_down", { kind: "tunnel_down" }, 530, null],
    ["access_denied", { kind: "access_denied" }, 302, "https://access.example/cdn-cgi/access/login/card"],
    ["access_denied, strictly", { kind: "access_denied", strict: true }, 403, null],
    ["access_denied with 401", { kind: "access_denied", strict: true, status: 401 }, 401, null],
    ["redirect", { kind: "redirect", status: 308, location: "/there" }, 308, "/there"],
  ] as const)("%s starts no run", async (_, fault, status, location) => {
    await spoil(fault);
    const reply = await paint();
    expect([reply.status, header(reply, "location")]).toEqual([status, location]);
    expect(header(reply, "content-type")).toContain("text/html");
    if (status === 530) expect(reply.body.toString()).toContain("1033");
    expect(counts()).toMatchObject({ starts: 0, refused: 1 });
  });
});

describe("a connection", () => {
  it("is kept alive after a fault and serves the next request correctly", async () => {
    await spoil({ kind: "status", status: 500, times: 1 });
    const body = JSON.stringify(SMALL);
    const socket = write(origin, {
      path: PAINT,
      json: SMALL,
      headers: { connection: "keep-alive" },
    });
    const parts: Buffer[] = [];
    socket.on("data", (part) => parts.push(part));
    await until(() => Buffer.concat(parts).includes("Internal Server Error"));
    socket.write(
      `POST ${PAINT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await new Promise((resolve) => socket.once("close", resolve));
    const text = Buffer.concat(parts).toString("latin1");
    expect([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(["500", "200"]);
  });

  it("refuses a declared body beyond 128 MiB before it is sent", async () => {
    const reply = await ask(origin, {
      path: PAINT,
      headers: {
        "content-length": String(128 * 1024 * 1024 + 1),
        "content-type": "application/json",
      },
      body: Buffer.from("{"),
    });
    expect([reply.status, counts().starts]).toEqual([413, 0]);
  });
});
