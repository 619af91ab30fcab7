/** An answer that cannot be the requested image or sound is the card's failure, or is never stored. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { wavHeader } from "../pure/media-files.ts";
import { doorway, errorOf, expectOk, linksOf, refusalOf, type Sent } from "./doorway.ts";
import { answerImage, type Answering, listOrigin, Origin, PNG } from "./origin.ts";

const door = doorway();
let origin: Origin;
let sound: Origin;
const PATIENT = { breaker: { max_fails: 1_000, fail_timeout_s: 1 } };
const MP3 = { path: "audio-generate", body: "json", fields: [], fixed: {}, results: null, formats: ["mp3"] };
const ONCE = { retry: { tries: 1 }, ...PATIENT };

beforeAll(async () => {
  [origin, sound] = await Promise.all([Origin.open(), Origin.open()]);
  await listOrigin(door, origin, "odd", { kind: "tts", route: "/odd/", dialects: { speech: MP3 }, ...ONCE });
  const read = { method: "POST", path: "caption", as: "run" };
  const paths = [{ method: "POST", path: "txt2img", as: "run" }, read];
  await listOrigin(door, origin, "images", { kind: "image", route: "/images/", paths, ...ONCE });
  await listOrigin(door, origin, "any", { kind: "http", route: "/any/", cache: { enabled: true }, ...ONCE });
  await listOrigin(door, origin, "pair", { kind: "image", route: "/pair/", ...PATIENT });
  await door.portico.admin("PUT", "/services/pair/cards/pair-sound", { origin: sound.url, slots: 8 });
});
beforeEach(() => {
  origin.seen.length = 0;
  sound.seen.length = 0;
});
afterAll(() => {
  origin.close();
  sound.close();
});

let calls = 0;
const paint = (json: object = {}, sent: Sent = {}, path = "/images/txt2img") =>
  door.ask(path, { json: { prompt: `p${calls++}`, seed: 1, ...json }, ...sent });
const speak = (json: object = {}, sent: Sent = {}) =>
  door.ask("/odd/audio-generate", { json: { text: `t${calls++}`, ...json }, ...sent });

/** Answers in one piece with its length, or in chunks. */
function answering(type: string | null, body: string | Buffer, { status = 200, chunked = false } = {}): Answering {
  return (res) => {
    res.statusCode = status;
    if (type !== null) res.setHeader("content-type", type);
    if (!chunked) res.setHeader("content-length", Buffer.byteLength(body));
    else if (body.length > 0) res.write(body);
    res.end(chunked ? undefined : body);
  };
}
const JSON_TYPE = "application/json";
const jsonOf = (value: unknown) => answering(JSON_TYPE, JSON.stringify(value));
const INVALID = "502 bad_gateway origin_error origin_invalid";

describe("an image run's 2xx answer without valid images is invalid:", () => {
  const damaged = Buffer.from(PNG, "base64");
  damaged[45] = (damaged[45] ?? 0) ^ 1;
  const CASES: Record<string, unknown> = {
    "an error's object": { error: "OutOfMemoryError", errors: "CUDA out of memory" },
    "an empty object": {},
    "images that are null": { images: null },
    "images that are an object": { images: {} },
    "a list": [1],
    "a text": "x",
    null: null,
    "a PNG with a wrong checksum": { images: [damaged.toString("base64")] },
    "one of two that is none": { images: [PNG, "none"] },
  };
  for (const [what, value] of Object.entries(CASES)) {
    test(what, async () => {
      origin.answering = jsonOf(value);
      expect(refusalOf(await paint())).toBe(INVALID);
    });
  }

  test("and the refusal has a Cache-Status", async () => {
    origin.answering = jsonOf({});
    expect((await paint()).header("cache-status")).toBe("portico; fwd=miss");
    expect((await paint({ seed: -1 })).header("cache-status")).toBe("portico; fwd=bypass");
    origin.answering = (res) => res.writeHead(503).end();
    expect((await paint()).header("cache-status")).toBe("portico; fwd=miss");
    await door.portico.admin("POST", "/services/pair/pause");
    const paused = await paint({}, {}, "/pair/txt2img");
    await door.portico.admin("POST", "/services/pair/resume");
    expect([paused.status, paused.header("cache-status")]).toEqual([503, "portico; fwd=miss"]);
  });

  test("the next card gets the request, and its answer is stored", async () => {
    const counts = () => [origin.seen.length, sound.seen.length];
    sound.answering = answerImage;
    origin.answering = jsonOf({ error: "CUDA out of memory" });
    for (let i = 0; counts()[0] === 0; i++) {
      expect(i, "calls without one to the broken card").toBeLessThan(20);
      const json = { prompt: `pair ${i}` };
      const answer = expectOk(await paint(json, {}, "/pair/txt2img"));
      expect(linksOf(answer)).toHaveLength(1);
      expect((await paint(json, {}, "/pair/txt2img")).header("cache-status")).toMatch(/hit/);
    }
  });

  test("but not on a path that need not make images", async () => {
    origin.answering = jsonOf({ caption: "a lighthouse" });
    expect(expectOk(await paint({}, {}, "/images/caption")).text).toContain("lighthouse");
  });
});

describe("an empty list of images", () => {
  test("is passed on and never stored", async () => {
    origin.answering = jsonOf({ images: [], info: "{}" });
    const json = { prompt: "none", send_images: false };
    for (let i = 0; i < 2; i++) {
      const answer = expectOk(await paint(json));
      expect(JSON.parse(answer.text)).toEqual({ images: [], info: "{}" });
      expect(answer.header("cache-status")).toBe("portico; fwd=miss");
      expect(linksOf(answer)).toEqual([]);
    }
    expect(origin.seen).toHaveLength(2);
    origin.answering = answerImage;
    expect(linksOf(expectOk(await paint(json)))).toHaveLength(1);
  });

  test("reaches each of several identical waiting requests", async () => {
    origin.answering = (res, seen) => void setTimeout(() => jsonOf({ images: [] })(res, seen), 300);
    const json = { prompt: "none at once" };
    const answers = await Promise.all([1, 2, 3].map(() => paint(json)));
    for (const answer of answers) expect(JSON.parse(expectOk(answer).text)).toEqual({ images: [] });
  });

  test("is replayed under its Idempotency-Key, and returned by `Prefer: wait`", async () => {
    origin.answering = jsonOf({ images: [] });
    const headers = { "idempotency-key": `empty-${calls++}` };
    const json = { prompt: "named" };
    expectOk(await paint(json, { headers }));
    const again = expectOk(await paint(json, { headers }));
    expect(again.header("idempotent-replayed")).toBe("true");
    expect(origin.seen).toHaveLength(1);
    const waited = expectOk(await paint({}, { headers: { prefer: "wait=10" } }));
    expect(JSON.parse(waited.text)).toEqual({ images: [] });
  });

  test("is 502 in the dialects, and is not replayed", async () => {
    origin.answering = jsonOf({ images: [] });
    const headers = { "idempotency-key": `dialect-${calls++}` };
    const openai = () =>
      door.ask("/v1/images/generations", { json: { model: "images", prompt: "x", seed: 1 }, headers });
    expect(refusalOf(await openai())).toBe(INVALID);
    const fal = await door.ask("/fal/run/portico/images", { json: { prompt: `fal ${calls++}`, seed: 1 } });
    expect([fal.status, fal.header("x-fal-error-type")]).toEqual([502, "runner_incomplete_response"]);
    origin.answering = answerImage;
    expectOk(await openai());
  });

  test("makes a job succeed, but makes a dialect's job fail", async () => {
    origin.answering = jsonOf({ images: [] });
    const ended = async (id: string) => {
      for (;;) {
        const job = JSON.parse((await door.ask(`/v1/jobs/${id}?wait=10`)).text) as { status: string };
        if (job.status !== "queued" && job.status !== "running") return job;
      }
    };
    const json = { service: "images", path: "txt2img", input: { prompt: "native", seed: 1 } };
    const own = JSON.parse((await door.ask("/v1/jobs", { json })).text) as { id: string };
    expect(await ended(own.id)).toMatchObject({ status: "succeeded", results: [] });
    const headers = { "x-fal-no-retry": "1" };
    const submitted = await door.ask("/fal/queue/portico/images", { json: { prompt: "fal", seed: 1 }, headers });
    const { request_id: id } = JSON.parse(submitted.text) as { request_id: string };
    expect(await ended(id)).toMatchObject({ status: "failed", error: { reason: "origin_invalid" } });
    const prediction = await door.ask(`/replicate/v1/predictions/${id}`);
    expect(JSON.parse(prediction.text)).toMatchObject({ status: "failed", output: null });
  });
});

describe("a status without content", () => {
  for (const status of [204, 205, 304]) {
    test(`${status} is invalid for images and sounds, and passes elsewhere`, async () => {
      origin.answering = (res) => res.writeHead(status).end();
      expect(refusalOf(await paint())).toBe(INVALID);
      expect(refusalOf(await speak())).toBe(INVALID);
      expect((await door.ask("/any/run", { json: { calls: calls++ } })).status).toBe(status);
    });
  }
});

const RIFF = Buffer.from("RIFF\x00\x00\x00\x00WAVE", "latin1");
describe("an answer that is not a sound is invalid:", () => {
  const CASES: [what: string, type: string | null, body: Buffer][] = [
    ["nothing", "audio/wav", Buffer.alloc(0)],
    ["nothing", "application/octet-stream", Buffer.alloc(0)],
    ["nothing", null, Buffer.alloc(0)],
    ["the first bytes of a sound", "audio/wav", RIFF.subarray(0, 11)],
    ["an error as a sound", "audio/x-wav", Buffer.from('{"error":"CUDA out of memory"}')],
    ["an image", "audio/wav", Buffer.from(PNG, "base64")],
    ["an image", "audio/mpeg", Buffer.from(PNG, "base64")],
  ];
  for (const [what, type, body] of CASES) {
    test(`${what} as ${type}`, async () => {
      origin.answering = answering(type, body);
      expect(refusalOf(await speak())).toBe(INVALID);
    });
  }

  test("in chunks, it is detected by the first one", async () => {
    for (const body of ['{"error":"CUDA out of memory"}', Buffer.alloc(0)]) {
      origin.answering = answering("audio/wav", body, { chunked: true });
      expect(errorOf(await speak()).reason).toBe("origin_invalid");
    }
  });

  test("if it is detected after the first bytes were sent, the answer is cut", async () => {
    origin.answering = (res) => {
      res.writeHead(200, { "content-type": "audio/wav" });
      res.write("not a s");
      setTimeout(() => res.end("ound, but a text"), 200);
    };
    expect((await speak()).whole).toBe(false);
  });
});

describe("a sound may be", () => {
  const samples = Buffer.alloc(5_000, 3);
  for (const [type, body] of [
    [null, samples],
    ["application/octet-stream", samples],
    ["audio/pcm", samples],
    ["audio/wav", Buffer.concat([wavHeader(36 + samples.length, samples.length), samples])],
    ["audio/mpeg", Buffer.concat([Buffer.from("ID3"), samples])],
  ] as const) {
    test(`of type ${type}`, async () => {
      for (const chunked of [false, true]) {
        origin.answering = answering(type, body, { chunked });
        const answer = expectOk(await speak());
        expect(answer.body.equals(body)).toBe(true);
      }
    });
  }
});

describe("a text instead of a sound is passed on and never stored:", () => {
  for (const type of [JSON_TYPE, "text/plain", "text/plain; charset=utf-8"]) {
    test(type, async () => {
      const json = { text: `a text of ${type}` };
      for (const chunked of [false, true]) {
        origin.answering = answering(type, '{"error":"CUDA out of memory"}', { chunked });
        const answer = expectOk(await speak(json));
        expect(answer.text).toContain("CUDA");
        expect(answer.header("cache-status")).toBe("portico; fwd=miss");
        expect(linksOf(answer)).toEqual([]);
      }
      expect(origin.seen).toHaveLength(2);
    });
  }

  test("but a dialect answers 502", async () => {
    for (const type of [JSON_TYPE, "text/plain"]) {
      origin.answering = answering(type, '{"error":"CUDA out of memory"}');
      const json = { model: "odd", input: `a text of ${type}`, response_format: "mp3" };
      expect(refusalOf(await door.ask("/v1/audio/speech", { json }))).toBe(INVALID);
    }
  });

  test("an HTML page labeled as an image is not a result either", async () => {
    origin.answering = answering("image/png", "<html>Bad Gateway</html>");
    for (let i = 0; i < 2; i++) {
      const answer = expectOk(await speak({ text: "a page" }));
      expect(answer.header("cache-status")).not.toMatch(/hit|stored/);
      expect(linksOf(answer)).toEqual([]);
    }
  });
});

describe("an origin that forbids storing:", () => {
  for (const headers of [
    { "cache-control": "no-store" },
    { "cache-control": "max-age=60, Private" },
    { "cache-control": 'private="x-own"' },
    { vary: "*" },
    { vary: "accept, *" },
  ] as Record<string, string>[]) {
    test(JSON.stringify(headers), async () => {
      const plain = { "content-type": "text/plain", "content-length": 4 };
      origin.answering = (res) => res.writeHead(200, { ...plain, ...headers }).end("mine");
      const body = JSON.stringify(headers);
      const ask = () => door.ask("/any/run", { body, headers: { "content-type": "text/plain" } });
      for (let i = 0; i < 2; i++) expect(expectOk(await ask()).header("cache-status")).toBe("portico; fwd=miss");
      expect(origin.seen).toHaveLength(2);
      origin.answering = (res) => res.writeHead(200, { ...plain, vary: "accept" }).end("ours");
      expect(expectOk(await ask()).header("cache-status")).toBe("portico; fwd=miss; stored");
      expect(expectOk(await ask()).header("cache-status")).toMatch(/hit/);
    });
  }

  test("is ignored where a seed decides, because image servers forbid it for everything", async () => {
    origin.answering = (res, seen) => {
      res.setHeader("cache-control", "no-store");
      answerImage(res, seen);
    };
    const json = { prompt: "no-store" };
    expect(expectOk(await paint(json)).header("cache-status")).toBe("portico; fwd=miss; stored");
    expect(expectOk(await paint(json)).header("cache-status")).toMatch(/hit/);
  });
});
