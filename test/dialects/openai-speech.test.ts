/** `/v1/audio/speech` with the official client: formats, streaming, events, and sounds that break off. */
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { SERVICE_DEFAULTS } from "../../sim/timing.ts";
import { doorway, errorOf } from "../contract/doorway.ts";
import { listOrigin, Origin } from "../contract/origin.ts";
import { more, openai, refused } from "./client.ts";

const door = doorway();
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  await listOrigin(door, origin, "voice", { kind: "tts", route: "/voice/", retry: { tries: 1 } });
});
afterAll(() => origin.close());
afterEach(async () => {
  door.park.setService({ ...SERVICE_DEFAULTS, speed: 0.1 });
  await door.park.heal();
});

const VOICE = { model: "cosyvoice2", voice: "alloy" } as const;
const SAMPLES = Buffer.from(Array.from({ length: 4_000 }, (_, i) => i % 251));
const HEADER_BYTES = 44;

async function bytesFrom(call: Promise<Response>): Promise<Buffer> {
  return Buffer.from(await (await call).arrayBuffer());
}

/** Builds a WAV with `extra` before the samples and `tail` after them; `known: false` leaves the lengths open. */
function wavOf(
  samples: Buffer,
  { bits = 16, extra = Buffer.alloc(0), tail = Buffer.alloc(0), known = true } = {},
): Buffer {
  const format = Buffer.alloc(24);
  format.write("fmt ", 0, "latin1");
  format.writeUInt32LE(16, 4);
  format.writeUInt16LE(bits === 16 ? 1 : 3, 8);
  format.writeUInt16LE(1, 10);
  format.writeUInt32LE(24_000, 12);
  format.writeUInt32LE((24_000 * bits) / 8, 16);
  format.writeUInt16LE(bits / 8, 20);
  format.writeUInt16LE(bits, 22);
  const data = Buffer.alloc(8);
  data.write("data", 0, "latin1");
  data.writeUInt32LE(known ? samples.length : 0xffff_ffff, 4);
  const rest = Buffer.concat([Buffer.from("WAVE"), format, extra, data, samples, tail]);
  const head = Buffer.alloc(8);
  head.write("RIFF", 0, "latin1");
  head.writeUInt32LE(known ? rest.length : 0xffff_ffff, 4);
  return Buffer.concat([head, rest]);
}

function answerSound(type: string | null, ...pieces: Buffer[]): void {
  origin.answering = (res) => {
    if (type !== null) res.setHeader("content-type", type);
    const [first, ...rest] = pieces;
    res.write(first);
    setTimeout(() => res.end(Buffer.concat(rest)), 20);
  };
}

test("wav and pcm have the same samples, with and without a header, from one run", async () => {
  const before = door.starts();
  const asked = { ...VOICE, input: "the tide is out" };
  const wav = await openai(door).audio.speech.create({ ...asked, response_format: "wav" });
  expect(wav.headers.get("content-type")).toBe("audio/wav");
  const wavBytes = Buffer.from(await wav.arrayBuffer());
  expect(wavBytes.toString("latin1", 0, 4)).toBe("RIFF");
  const pcm = await openai(door).audio.speech.create({ ...asked, response_format: "pcm" });
  expect(pcm.headers.get("content-type")).toBe("audio/pcm");
  expect(Buffer.from(await pcm.arrayBuffer()).equals(wavBytes.subarray(HEADER_BYTES))).toBe(true);
  expect(pcm.headers.get("cache-status")).toMatch(/^portico; hit/);
  expect(door.starts() - before).toBe(1);
});

test("without response_format the answer is a sound that names its format", async () => {
  const answer = await openai(door).audio.speech.create({ ...VOICE, input: "no format" });
  expect(answer.headers.get("content-type")).toBe("audio/wav");
  expect((await answer.arrayBuffer()).byteLength).toBeGreaterThan(HEADER_BYTES);
});

test.each(["mp3", "opus", "aac", "flac"] as const)("%s is refused if the origin does not make it", async (format) => {
  const error = await refused(openai(door).audio.speech.create({ ...VOICE, input: "x", response_format: format }));
  expect(error).toBeInstanceOf(OpenAI.BadRequestError);
  expect(error).toMatchObject({ param: "response_format" });
  expect(error.message).toContain("wav, pcm");
});

test("mp3 is available if the origin makes it, and is then the default", async () => {
  const speech = {
    path: "audio-generate",
    body: "json",
    fields: [
      { from: "input", to: "text" },
      { from: "response_format", to: "format" },
    ],
    fixed: {},
    results: null,
    formats: ["wav", "mp3"],
  };
  await listOrigin(door, origin, "packed", { kind: "tts", route: "/packed/", dialects: { speech } });
  for (const format of [{ response_format: "mp3" as const }, {}]) {
    answerSound("audio/mpeg", SAMPLES);
    const answer = await openai(door).audio.speech.create({
      model: "packed",
      voice: "x",
      input: JSON.stringify(format),
      ...format,
    });
    expect(answer.headers.get("content-type")).toBe("audio/mpeg");
    expect(Buffer.from(await answer.arrayBuffer()).equals(SAMPLES)).toBe(true);
    expect(JSON.parse(origin.taken().body.toString())).toMatchObject({ format: "mp3" });
  }
});

test("the sound is passed on while the card makes it", async () => {
  door.park.setService({ service_ms: 3_000, speech_s: 3, chunk_ms: 100 });
  for (const response_format of ["wav", "pcm"] as const) {
    const from = performance.now();
    const answer = await openai(door).audio.speech.create({
      ...VOICE,
      input: `in time ${response_format}`,
      response_format,
    });
    const times: number[] = [];
    let bytes = 0;
    for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
      times.push(performance.now() - from);
      bytes += chunk.byteLength;
    }
    expect(bytes).toBe(3 * 48_000 + (response_format === "wav" ? HEADER_BYTES : 0));
    expect(times[0]).toBeLessThan(1_000);
    expect(times.at(-1)).toBeGreaterThan(2_500);
    expect(times.length).toBeGreaterThan(10);
  }
});

test("as events the sound has the same bytes, in pieces, while it is made", async () => {
  door.park.setService({ service_ms: 2_000, speech_s: 2, chunk_ms: 100 });
  const asked = { ...VOICE, input: "in events", response_format: "pcm" as const };
  const from = performance.now();
  const answer = await openai(door).audio.speech.create({ ...asked, stream_format: "sse" });
  expect(answer.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  let text = "";
  let firstMs = 0;
  for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
    firstMs ||= performance.now() - from;
    text += Buffer.from(chunk).toString();
  }
  expect(firstMs).toBeLessThan(1_500);
  const events = [...text.matchAll(/^data: (.*)$/gm)].map(
    ([, data = ""]) => JSON.parse(data) as { type: string; audio?: string },
  );
  expect(events.at(-1)).toMatchObject({ type: "speech.audio.done" });
  expect(events.length).toBeGreaterThan(5);
  const sound = Buffer.concat(events.map(({ audio = "" }) => Buffer.from(audio, "base64")));
  const plain = await bytesFrom(openai(door).audio.speech.create(asked));
  expect(sound.equals(plain)).toBe(true);
});

test("a sound that breaks off is cut for the caller in both formats, and is an error in events", async () => {
  door.park.setService({ service_ms: 500, speech_s: 2, chunk_ms: 100 });
  for (const { card } of door.park.cards) await door.park.setFault(card, { kind: "reset", at: "body" });
  for (const response_format of ["wav", "pcm"]) {
    const json = { ...VOICE, input: `broken ${response_format}`, response_format };
    const answer = await door.ask("/v1/audio/speech", { json });
    expect([answer.status, answer.whole]).toEqual([200, false]);
    expect(answer.body.length).toBeGreaterThan(0);
  }
  const told = await door.ask("/v1/audio/speech", { json: { ...VOICE, input: "broken events", stream_format: "sse" } });
  expect(told.whole).toBe(true);
  expect(told.text).toMatch(/data: \{"error":\{"code":"bad_gateway"[^\n]*\}\}\n\n$/);
  expect(told.text).not.toContain("speech.audio.done");
});

test("the origin's sound may be bare or a WAV, of unknown length, with extra chunks, split anywhere", async () => {
  const list = Buffer.concat([Buffer.from("LIST"), Buffer.from([3, 0, 0, 0]), Buffer.from("abc\0")]);
  const around = wavOf(SAMPLES, { extra: list, tail: list });
  const cases: [type: string | null, wav: Buffer, bare: boolean][] = [
    [null, SAMPLES, true],
    ["audio/pcm", SAMPLES, true],
    ["audio/wav", wavOf(SAMPLES), false],
    ["audio/x-wav", wavOf(SAMPLES, { known: false }), false],
    ["audio/wav", around, false],
  ];
  for (const [i, [type, bytes, bare]] of cases.entries()) {
    for (const split of [1, 10, 43, 60]) {
      const asked = { model: "voice", voice: "x", input: `case ${i} ${split}` };
      const fresh = { headers: { "cache-control": "no-cache" } };
      answerSound(type, bytes.subarray(0, split), bytes.subarray(split));
      const pcm = await bytesFrom(openai(door).audio.speech.create({ ...asked, response_format: "pcm" }, fresh));
      expect(pcm.equals(SAMPLES), `${i} ${split}`).toBe(true);
      const wav = await bytesFrom(openai(door).audio.speech.create({ ...asked, response_format: "wav" }, fresh));
      expect(wav.subarray(bare ? HEADER_BYTES : 0).equals(bytes), `${i} ${split}`).toBe(true);
    }
  }
  origin.seen.length = 0;
});

test("anything but a 16-bit sound with samples gets 502", async () => {
  answerSound("audio/mpeg", SAMPLES);
  const other = await refused(openai(door).audio.speech.create({ model: "voice", voice: "x", input: "mp3" }));
  expect(other).toMatchObject({ status: 502, code: "bad_gateway" });
  answerSound("audio/pcm", Buffer.alloc(0));
  const empty = await refused(openai(door).audio.speech.create({ model: "voice", voice: "x", input: "nothing" }));
  expect(empty).toMatchObject({ status: 502, code: "bad_gateway" });
  answerSound("audio/wav", wavOf(SAMPLES, { bits: 32 }));
  const floats = await refused(
    openai(door).audio.speech.create({ model: "voice", voice: "x", input: "floats", response_format: "pcm" }),
  );
  expect(floats.status).toBe(502);
  origin.seen.length = 0;
});

test("voice, speed and instructions reach the origin under its own names", async () => {
  answerSound("audio/wav", wavOf(SAMPLES));
  await bytesFrom(
    openai(door).audio.speech.create(
      more(
        { model: "voice", voice: { id: "anna" }, input: "x", speed: 1.5, instructions: "gently" },
        { text_frontend: false },
      ),
    ),
  );
  const { target, body } = origin.taken();
  expect(target).toBe("/voice/audio-generate");
  expect(JSON.parse(body.toString())).toEqual({
    text: "x",
    voice: "anna",
    speed: 1.5,
    instruct_text: "gently",
    format: "wav",
    stream: true,
    text_frontend: false,
  });
});

test.each([
  ["input", { input: "" }],
  ["input", { input: "x".repeat(4_097) }],
  ["input", { input: 5 }],
  ["speed", { speed: 0.2 }],
  ["speed", { speed: 4.1 }],
  ["voice", { voice: { name: "anna" } }],
  ["response_format", { response_format: "midi" }],
  ["stream_format", { stream_format: "ndjson" }],
])("400 names %s", async (param, fields) => {
  const answer = await door.ask("/v1/audio/speech", { json: { ...VOICE, input: "x", ...fields } });
  expect([answer.status, errorOf(answer).param]).toEqual([400, param]);
});

test("a text longer than the service allows is refused", async () => {
  await door.portico.admin("PUT", "/services/voice", { bounds: { text: 10 } });
  const long = await refused(openai(door).audio.speech.create({ model: "voice", voice: "x", input: "12345678901" }));
  expect(long).toMatchObject({ status: 400, param: "input" });
  await door.portico.admin("PUT", "/services/voice", { bounds: {} });
});
