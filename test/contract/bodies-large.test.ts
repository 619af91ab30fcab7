/** Bodies too large to buffer are still checked before a slot is taken, and nothing of them stays in the store. */
import { createHash } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, sleep } from "../line/caller.ts";
import { bytesOf, RawCall } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";
import { answerImage, listOrigin, Origin, PNG, valuesOf } from "./origin.ts";
import { openUploads } from "./uploads.ts";

const MB = 1e6;
const JSON_TYPE = { "content-type": "application/json" };
const CHUNKED = { ...JSON_TYPE, "transfer-encoding": "chunked" };
const BOUNDARY = "x-y-z";
const MULTIPART = { "content-type": `multipart/form-data; boundary=${BOUNDARY}` };
const door = doorway({ services: { portrait: { max_body_mb: 60 } } });
let origin: Origin;

beforeAll(async () => {
  origin = await Origin.open();
  const service = { kind: "image", max_body_mb: 45, breaker: { max_fails: 100, fail_timeout_s: 1 } };
  await listOrigin(door, origin, "pictures", { ...service, route: "/p/" });
  await door.portico.admin("PUT", "/services/pictures/cards/second-card", { origin: origin.url, slots: 8 });
  await listOrigin(door, origin, "forms", { kind: "tts", route: "/f/" });
  await listOrigin(
    door,
    origin,
    "one",
    { ...service, route: "/one/", queue: { max: 10, timeout_s: 60 } },
    { slots: 1 },
  );
});
afterEach(async () => {
  await nothingLeft();
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

async function inputs(): Promise<string[]> {
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  return (await bucket.list({ prefix: "inputs/" })).objects.map(({ key }) => key);
}

async function nothingLeft(): Promise<void> {
  await eventually(
    "no spooled body is left",
    async () => (await inputs()).length === 0 && openUploads(door.portico.stateDir) === 0,
  );
}

/** JSON with a filling of so many bytes, after the fields of `json` and before those of `last`. */
function large(bytes: number, json: object, last: object = {}): Buffer {
  const start = JSON.stringify(picture({ ...json, init_images: ["@"] }));
  const [before = "", after = ""] = start.split("@");
  const end = Object.entries(last).map(([name, value]) => `,${JSON.stringify(name)}:${JSON.stringify(value)}`);
  return Buffer.concat([
    Buffer.from(before),
    Buffer.alloc(bytes, `${PNG.slice(0, 40)}/+`),
    Buffer.from(after.slice(0, -1) + end.join("") + after.slice(-1)),
  ]);
}

/** Encodes a body with HTTP chunked framing. */
function chunked(body: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < body.length; at += 300_000) {
    const piece = body.subarray(at, at + 300_000);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n"));
  }
  return Buffer.concat([...pieces, Buffer.from("0\r\n\r\n")]);
}

const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const paint = (body: Buffer, headers: Record<string, string> = JSON_TYPE, target = "/p/img2img") =>
  door.ask(target, { method: "POST", body, headers });

const part = (name: string, value: string, more = "") =>
  Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`);
const form = (text: string) =>
  Buffer.concat([
    part("spk_id", "a"),
    part("prompt_wav", "w".repeat(20 * MB), '; filename="a.wav"'),
    part("tts_text", text),
    Buffer.from(`--${BOUNDARY}--\r\n`),
  ]);

/** Sends half of a request. */
const halfSent = async (body: Buffer) => {
  const call = await RawCall.open(door.portico.url);
  const headers = { authorization: `Bearer ${door.ownKey}`, ...JSON_TYPE };
  const bytes = bytesOf(call.host, { method: "POST", target: "/p/img2img", headers, body });
  call.send(bytes.subarray(0, bytes.length / 2));
  return call;
};

/** Sends a body that is spooled and then waits for the only slot, until `letGo` is called. */
async function laidInLine(): Promise<{ call: RawCall; letGo: () => Promise<void> }> {
  const answers: (() => void)[] = [];
  origin.answering = (res, seen) => answers.push(() => answerImage(res, seen));
  const first = door.ask("/one/txt2img", { json: picture() });
  await eventually("the slot is taken", () => origin.seen.length === 1);
  origin.answering = answerImage;
  const call = await RawCall.open(door.portico.url);
  const headers = { authorization: `Bearer ${door.ownKey}`, ...JSON_TYPE };
  call.send(bytesOf(call.host, { method: "POST", target: "/one/img2img", headers, body: large(10 * MB, {}) }));
  await eventually("it is laid away", async () => (await inputs()).length === 1);
  await sleep(200);
  const letGo = async () => {
    for (const answer of answers) answer();
    expectOk(await first);
  };
  return { call, letGo };
}

describe("a large body", () => {
  test("of 40 MB with its image as a data: URL produces a picture", async () => {
    // The simulated card decodes the image, so the 40 MB are in another field.
    const body = Buffer.concat([
      Buffer.from('{"prompt":"a lighthouse","width":32,"height":32,"steps":1,"init_images":["data:image/png;base64,'),
      Buffer.from(PNG),
      Buffer.from('"],"filling":"'),
      Buffer.alloc(40 * MB, "x"),
      Buffer.from('"}'),
    ]);
    const before = door.starts();
    const answer = expectOk(await paint(body, JSON_TYPE, "/sdapi/v1/img2img"));
    const { images }: { images: string[] } = JSON.parse(answer.text);
    expect(
      Buffer.from(images[0] ?? "", "base64")
        .subarray(1, 4)
        .toString(),
    ).toBe("PNG");
    expect(door.starts()).toBe(before + 1);
  });

  test("of 40 MB reaches the origin byte for byte with its length, whether sent with a length or chunked", async () => {
    const body = large(40 * MB, { seed: 7 });
    for (const sent of [() => paint(body), () => paint(chunked(body), CHUNKED)]) {
      const answer = expectOk(await sent());
      expect(answer.header("cache-status")).toBe("portico; fwd=bypass");
      const seen = origin.taken();
      expect([seen.body.length, digest(seen.body)]).toEqual([body.length, digest(body)]);
      expect(valuesOf(seen, "content-length")).toEqual([String(body.length)]);
    }
  });

  test("of 40 MB is sent whole to the next card when the first one resets the connection", async () => {
    const body = large(40 * MB, {});
    const sizes: number[] = [];
    origin.answering = (res, seen) => {
      sizes.push(seen.body.length);
      if (sizes.length === 1) res.socket?.resetAndDestroy();
      else answerImage(res, seen);
    };
    expectOk(await paint(body));
    expect(sizes).toEqual([body.length, body.length]);
    expect(new Set(origin.seen.map((seen) => digest(seen.body)))).toEqual(new Set([digest(body)]));
  });

  test("of 10 MB counts as many results as its batch_size asks for", async () => {
    const key = await door.key({ limits: { results_per_month: 3 } });
    const body = large(10 * MB, { batch_size: 4 });
    const answer = await door.ask("/p/img2img", { method: "POST", body, headers: JSON_TYPE, key });
    expect(refusalOf(answer)).toBe("429 rate_limited rate_limit_error quota");
    expect(origin.seen).toHaveLength(0);
  });
});

describe("a large body is refused before a slot is taken, and does not reach the origin:", () => {
  const REFUSED: [what: string, body: () => Buffer, reason: string, param: string][] = [
    ["a width too large at the very end", () => large(40 * MB, {}, { width: 4096 }), "invalid_field", "width"],
    ["a width too large first", () => large(40 * MB, { width: 4096 }), "invalid_field", "width"],
    [
      "a forbidden field after 20 MB, and 20 more",
      () => {
        const [first, second] = [large(20 * MB, {}), large(20 * MB, {})];
        return Buffer.concat([first.subarray(0, -1), Buffer.from(',"script_name":"x",'), second.subarray(1)]);
      },
      "invalid_field",
      "script_name",
    ],
    [
      "an image by URL",
      () => large(20 * MB, {}, { init_images: ["http://10.0.0.1/"] }),
      "invalid_field",
      "init_images",
    ],
    ["a brace too many", () => Buffer.concat([large(40 * MB, {}), Buffer.from("}")]), "malformed_json", "body"],
    ["a brace too few", () => large(40 * MB, {}).subarray(0, -1), "malformed_json", "body"],
  ];
  for (const [what, body, reason, param] of REFUSED) {
    test(what, async () => {
      const whole = body();
      for (const answer of [await paint(whole), await paint(chunked(whole), CHUNKED)]) {
        expect(refusalOf(answer)).toBe(`400 invalid_request invalid_request_error ${reason}`);
        expect(errorOf(answer)).toMatchObject({ param, started: "no" });
        expect(answer.header("server-timing")).not.toContain("queue");
      }
      expect(origin.seen).toHaveLength(0);
    });
  }

  test("over max_body_mb, with and without a length", async () => {
    const { received } = origin;
    const said = { authorization: `Bearer ${door.ownKey}`, ...JSON_TYPE };
    const body = large(45 * MB, {});
    const headers = [{ "content-length": String(body.length) }, { "transfer-encoding": "chunked" }];
    for (const [i, framed] of headers.entries()) {
      const call = await RawCall.open(door.portico.url);
      call.send(bytesOf(call.host, { method: "POST", target: "/p/img2img", headers: { ...said, ...framed } }));
      if (i === 1) call.send(chunked(body));
      expect(refusalOf(await call.answer())).toMatch(/^413 body_too_large invalid_request_error/);
    }
    expect(origin.received).toBe(received);
  });

  test("a 20 MB form whose text is too long; one at the limit passes", async () => {
    const refused = await paint(form("好".repeat(5_001)), MULTIPART, "/f/inference_zero_shot");
    expect(refusalOf(refused)).toBe("400 invalid_request invalid_request_error invalid_field");
    expect(errorOf(refused).param).toBe("tts_text");
    expect(origin.seen).toHaveLength(0);
    origin.answering = (res) => res.writeHead(200, { "content-type": "audio/pcm" }).end(Buffer.alloc(200));
    const body = form("好".repeat(5_000));
    expectOk(await paint(body, MULTIPART, "/f/inference_zero_shot"));
    expect(digest(origin.taken().body)).toBe(digest(body));
  });
});

describe("a caller that hangs up", () => {
  test("while sending a large body has taken no slot and leaves nothing in the store", async () => {
    const { received } = origin;
    const call = await halfSent(large(40 * MB, {}));
    await eventually("it is being laid away", () => openUploads(door.portico.stateDir) === 1);
    const { data } = await door.portico.admin<{ data: { state: string }[] }>("GET", "/leases?limit=1000");
    expect(data.filter(({ state }) => state === "leased")).toEqual([]);
    call.reset();
    await nothingLeft();
    expect(origin.received).toBe(received);
  });

  test("while its large body is in line leaves nothing in the store", async () => {
    const { call, letGo } = await laidInLine();
    call.reset();
    await nothingLeft();
    await letGo();
    expect(origin.seen).toHaveLength(1);
  });
});

test("a spooled body that gets lost is answered with 500, and its card stays in use", async () => {
  const { call, letGo } = await laidInLine();
  const bucket = await door.portico.mf().getR2Bucket("RESULTS");
  await bucket.delete(await inputs());
  await letGo();
  const answer = await call.answer();
  expect(refusalOf(answer)).toBe("500 internal internal_error internal");
  expect(errorOf(answer).started).toBe("no");
  expect(origin.seen).toHaveLength(1);
  expectOk(await door.ask("/one/txt2img", { json: picture() }));
});

test("a large body refused without a card, a cached answer or a rate token leaves nothing in the store", async () => {
  const body = large(10 * MB, {});
  await door.portico.admin("PUT", "/services/empty", { kind: "image", route: "/empty/" });
  const unanswered = await paint(body, JSON_TYPE, "/empty/img2img");
  expect(unanswered.status).toBe(503);
  await nothingLeft();
  const uncached = await paint(body, { ...JSON_TYPE, "cache-control": "only-if-cached" });
  expect(refusalOf(uncached)).toBe("504 gateway_timeout origin_error not_cached");
  await nothingLeft();
  const key = await door.key({ limits: { requests_per_minute: 1, burst: 1 } });
  const twice = [1, 2].map(() => door.ask("/p/img2img", { method: "POST", body, headers: JSON_TYPE, key }));
  const statuses = (await Promise.all(twice)).map(({ status }) => status);
  expect(new Set(statuses)).toEqual(new Set([200, 429]));
});
