/** An answer too large for memory is streamed to its caller, and becomes a result once it is complete. */
import { crc32 } from "node:zlib";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, sleep } from "../line/caller.ts";
import { type Answer, bytesOf, RawCall } from "../support/raw.ts";
import { doorway, expectOk, picture, refusalOf, type Sent, targetOf } from "./doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "./origin.ts";
import { openUploads } from "./uploads.ts";

const MIB = 1024 * 1024;
/** Pictures in chunks are kept in memory up to 16 MiB. */
const LARGE = 18 * MIB + 5;
const door = doorway({ cards: [] });
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  // The slot of a cut answer is free again before the next test needs it.
  const common = { breaker: { max_fails: 100, fail_timeout_s: 1 }, drain: { max_s: 1 } };
  await listOrigin(door, origin, "pictures", { kind: "image", route: "/p/", ...common });
  await listOrigin(door, origin, "sounds", { kind: "tts", route: "/s/", ...common });
  await listOrigin(door, origin, "common", { kind: "tts", route: "/c/", ...common, cache: { shared: true } });
  await listOrigin(door, origin, "films", { kind: "http", route: "/f/", ...common, cache: { enabled: true } });
});
afterEach(async () => {
  await eventually("no upload is left open", () => openUploads(door.portico.stateDir) === 0);
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

function chunk(type: string, data: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length);
  head.write(type, 4, "latin1");
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(data, crc32(head.subarray(4))));
  return Buffer.concat([head, data, sum]);
}

/** A structurally valid PNG of about so many bytes. */
function png(bytes: number): Buffer {
  const parts = Array.from({ length: Math.ceil(bytes / MIB) }, (_, i) => chunk("IDAT", Buffer.alloc(MIB, i + 1)));
  const signature = Buffer.from("89504e470d0a1a0a", "hex");
  return Buffer.concat([signature, chunk("IHDR", Buffer.alloc(13)), ...parts, chunk("IEND", Buffer.alloc(0))]);
}

/** A sound with so many bytes of samples, whose header claims `said` bytes. */
function wav(bytes: number, said = bytes): Buffer {
  const head = Buffer.alloc(44);
  head.write("RIFF", 0, "latin1");
  head.writeUInt32LE(said === 0 ? 0 : said + 36, 4);
  head.write("WAVEfmt ", 8, "latin1");
  head.writeUInt32LE(16, 16);
  head.write("data", 36, "latin1");
  head.writeUInt32LE(said, 40);
  return Buffer.concat([head, Buffer.alloc(bytes, "sound of the sea ")]);
}

interface Framing {
  type: string;
  /** Sent with Content-Length, or in chunks. */
  length?: boolean;
  /** Number of bytes after which the connection ends. */
  cutAt?: number;
  /** Pause between two pieces. */
  pauseMs?: number;
}

function sends(body: Buffer, { type, length = false, cutAt = body.length, pauseMs = 0 }: Framing): Answering {
  return (res) => {
    res.writeHead(200, { "content-type": type, ...(length ? { "content-length": body.length } : {}) });
    const pieces = async function* () {
      for (let at = 0; at < cutAt; at += MIB) {
        yield body.subarray(at, Math.min(at + MIB, cutAt));
        if (pauseMs > 0) await sleep(pauseMs);
      }
    };
    Readable.from(pieces())
      .on("end", () => (cutAt < body.length ? res.destroy() : res.end()))
      .pipe(res, { end: false });
  };
}

/** Returns the record of a request. */
async function became(id: string): Promise<{
  state: string;
  results: { id: string; url: string; bytes: number; sha256: string; content_type: string }[];
}> {
  return JSON.parse((await door.ask(`/v1/requests/${id}`)).text);
}

async function finished(answer: Answer | string) {
  const id = typeof answer === "string" ? answer : (answer.header("x-request-id") ?? "");
  await eventually("it has ended", async () => !["queued", "running"].includes((await became(id)).state));
  return became(id);
}

const FRAMES: [how: string, length: boolean][] = [
  ["with its length", true],
  ["in chunks", false],
];
const CASES = [
  { what: "picture with its length", path: "/p/txt2img", type: "image/png", length: true, body: png(LARGE) },
  { what: "picture in chunks", path: "/p/txt2img", type: "image/png", length: false, body: png(LARGE) },
  { what: "sound with its length", path: "/s/audio-generate", type: "audio/wav", length: true, body: wav(LARGE) },
  {
    what: "sound in chunks that does not know its length",
    path: "/s/audio-generate",
    type: "audio/wav",
    length: false,
    body: wav(LARGE, 0),
  },
  { what: "film in chunks", path: "/f/film", type: "video/mp4", length: false, body: Buffer.alloc(LARGE, "a film ") },
];

describe.each(CASES)("a large $what", ({ path, type, body, length }) => {
  const ask = (sent: Sent = {}) => door.ask(path, { json: picture({ text: "the sea" }), ...sent });

  test("arrives whole, is a result with its digest, can be read in part, and hits for the same request", async () => {
    origin.answering = sends(body, { type, length });
    const json = picture({ text: "the sea" });
    const answer = expectOk(await ask({ json }));
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.header("cache-status")).toBe("portico; fwd=miss");
    const { state, results } = await finished(answer);
    const sha256 = createHash("sha256").update(body).digest("hex");
    expect(state).toBe("succeeded");
    expect(results).toMatchObject([{ bytes: body.length, sha256, content_type: type }]);
    const target = targetOf(results[0]?.url ?? "");
    const whole = expectOk(await door.ask(target, { key: null }));
    expect(whole.body.equals(body)).toBe(true);
    expect(whole.header("etag")).toBe(`"${sha256}"`);
    const part = await door.ask(target, { key: null, headers: { range: `bytes=${6 * MIB}-${6 * MIB + 99}` } });
    expect([part.status, part.body.equals(body.subarray(6 * MIB, 6 * MIB + 100))]).toEqual([206, true]);
    const hit = expectOk(await ask({ json }));
    expect(hit.header("cache-status")).toMatch(/^portico; hit/);
    expect(hit.header("link")).toContain(results[0]?.id);
    expect(hit.body.equals(body)).toBe(true);
    expect(origin.seen).toHaveLength(1);
  });

  test("that the origin cuts is cut for the caller, fails, and leaves no result", async () => {
    for (const cutAt of [17 * MIB, body.length - 1]) {
      origin.answering = sends(body, { type, length, cutAt });
      const answer = await ask();
      expect([answer.status, answer.whole]).toEqual([200, false]);
      expect(await finished(answer)).toMatchObject({ state: "failed", results: [] });
    }
  });

  test("whose caller hangs up midway is found under its request id", async () => {
    origin.answering = sends(body, { type, length, pauseMs: 20 });
    const id = `gone-${length}-${type.replaceAll(/\W/g, "")}-${body.length}-${body[40]}`;
    const call = await RawCall.open(door.portico.url);
    const headers = { authorization: `Bearer ${door.ownKey}`, "content-type": "application/json", "x-request-id": id };
    call.send(
      bytesOf(call.host, { method: "POST", target: path, headers, body: JSON.stringify(picture({ text: id })) }),
    );
    await call.head();
    call.reset();
    const { state, results } = await finished(id);
    expect([state, results.length]).toEqual(["succeeded", 1]);
    const found = expectOk(await door.ask(targetOf(results[0]?.url ?? ""), { key: null }));
    expect(found.body.equals(body)).toBe(true);
  });
});

describe.each(FRAMES)("a large picture that arrives complete %s and is damaged", (_, length) => {
  test.each([
    ["in its structure", (body: Buffer) => body.fill(0xee, 9 * MIB, 16 * MIB)],
    ["by what goes on after its end", (body: Buffer) => Buffer.concat([body, Buffer.from("<html>")])],
    ["by an end that is missing", (body: Buffer) => body.subarray(0, -12)],
  ])("%s is cut for the caller, fails, and is not kept", async (_how, damage) => {
    origin.answering = sends(damage(png(LARGE)), { type: "image/png", length });
    const answer = await door.ask("/p/txt2img", { json: picture() });
    expect([answer.status, answer.whole]).toEqual([200, false]);
    expect(await finished(answer)).toMatchObject({ state: "failed", results: [] });
  });
});

test("a large answer that is not a picture is refused", async () => {
  origin.answering = sends(Buffer.alloc(LARGE, "x"), { type: "text/plain", length: true });
  expect(refusalOf(await door.ask("/p/txt2img", { json: picture() }))).toBe(
    "502 bad_gateway origin_error origin_invalid",
  );
});

test("a deleted large result is gone, with its stored answer", async () => {
  const body = wav(LARGE);
  origin.answering = sends(body, { type: "audio/wav" });
  const json = { text: "to be forgotten" };
  const { results } = await finished(expectOk(await door.ask("/s/audio-generate", { json })));
  const path = new URL(results[0]?.url ?? "").pathname;
  expect((await door.ask(path, { method: "DELETE" })).status).toBe(204);
  expect((await door.ask(path)).status).toBe(404);
  expectOk(await door.ask("/s/audio-generate", { json }));
  expect(origin.seen).toHaveLength(2);
});

test("in a shared cache each tenant makes its own large result", async () => {
  const body = wav(LARGE);
  origin.answering = sends(body, { type: "audio/wav" });
  const json = { text: "for everybody" };
  await finished(expectOk(await door.ask("/c/audio-generate", { json })));
  expect(expectOk(await door.ask("/c/audio-generate", { json })).header("cache-status")).toMatch(/^portico; hit/);
  const other = await door.key();
  const answer = expectOk(await door.ask("/c/audio-generate", { json, key: other }));
  expect(answer.header("cache-status")).toBe("portico; fwd=miss");
  expect(answer.body.equals(body)).toBe(true);
});

test("with no-store a large answer arrives whole and is not kept", async () => {
  const body = png(LARGE);
  origin.answering = sends(body, { type: "image/png" });
  const answer = expectOk(await door.ask("/p/txt2img", { json: picture(), headers: { "cache-control": "no-store" } }));
  expect(answer.body.equals(body)).toBe(true);
  expect(await finished(answer)).toMatchObject({ state: "succeeded", results: [] });
});

function answersImages(images: Buffer[]): Answering {
  return (res) => {
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ images: images.map((image) => image.toString("base64")) }));
  };
}

describe("an answer in JSON", () => {
  test("with a picture of 2048 x 2048, or four of 1024 x 1024, is stored with each of them", async () => {
    // The sizes of such pictures when they cannot be compressed.
    for (const images of [[png(7 * MIB)], Array.from({ length: 4 }, () => png(2 * MIB))]) {
      origin.answering = answersImages(images);
      const json = picture();
      const answer = expectOk(await door.ask("/p/txt2img", { json }));
      expect(answer.header("cache-status")).toBe("portico; fwd=miss; stored");
      const { results } = await finished(answer);
      const digests = images.map((image) => createHash("sha256").update(image).digest("hex"));
      expect(results.map(({ sha256 }) => sha256)).toEqual(digests);
      expect(expectOk(await door.ask("/p/txt2img", { json })).header("cache-status")).toMatch(/^portico; hit/);
    }
  });

  test.each(FRAMES)(
    "of more than 16 MiB %s arrives whole, is not stored, and Cache-Status says so",
    async (_, length) => {
      const body = Buffer.from(JSON.stringify({ images: [png(LARGE).toString("base64")] }));
      origin.answering = sends(body, { type: "application/json", length });
      const json = picture();
      for (let times = 0; times < 2; times++) {
        const answer = expectOk(await door.ask("/p/txt2img", { json }));
        expect(answer.body.equals(body)).toBe(true);
        expect(answer.header("cache-status")).toBe("portico; fwd=miss; detail=too_large");
        expect(await finished(answer)).toMatchObject({ state: "succeeded", results: [] });
      }
    },
  );
});
