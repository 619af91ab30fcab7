import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { ask, header, must, pause, until, write } from "./wire.ts";

const PATH = "/AIVoice/TTS/CosyVoice2/audio-generate";
const TEXT = "Good morning, this is a card that speaks.";

let park: Park;
let origin: string;
beforeAll(async () => {
  park = await startPark({ servers: 1, gpus: 1 });
  origin = must(park.cards[0]).origin;
});
beforeEach(() => {
  park.setService({ speed: 0, service_ms: null, speech_s: null, chunk_ms: 200 });
  park.reset();
});
afterAll(() => park.close());

describe("audio-generate", () => {
  it("returns a complete WAV with its length", async () => {
    const reply = await ask(origin, { path: PATH, json: { text: TEXT, voice: "anna" } });
    expect([reply.status, header(reply, "content-type"), reply.whole]).toEqual([200, "audio/wav", true]);
    expect(Number(header(reply, "content-length"))).toBe(reply.body.length);
    expect(reply.body.readUInt32LE(4)).toBe(reply.body.length - 8);
    expect(reply.body.readUInt32LE(40)).toBe(reply.body.length - 44);
    const seconds = (reply.body.length - 44) / 48_000;
    expect(seconds).toBeGreaterThan(2);
    expect(seconds).toBeLessThan(4.5);
  });

  it("returns as pcm the same samples as in the WAV, without a header", async () => {
    const [wav, pcm] = await Promise.all(
      ["wav", "pcm"].map((format) => ask(origin, { path: PATH, json: { text: TEXT, format } })),
    );
    expect(must(wav).body.subarray(44).equals(must(pcm).body)).toBe(true);
  });

  it("streams chunks as the sound is made, with a WAV header of unknown length", async () => {
    park.setService({ service_ms: 400, chunk_ms: 300 });
    const reply = await ask(origin, { path: PATH, json: { text: TEXT, stream: true } });
    expect([header(reply, "transfer-encoding"), header(reply, "content-length"), reply.whole]).toEqual([
      "chunked",
      null,
      true,
    ]);
    expect([reply.body.readUInt32LE(4), reply.body.readUInt32LE(40)]).toEqual([0xffffffff, 0xffffffff]);
    const chunks = Math.ceil((reply.body.length - 44) / 14_400);
    expect(chunks).toBeGreaterThan(5);
    const [first, last] = [must(reply.arrivals[1]), must(reply.arrivals.at(-1))];
    expect(first).toBeLessThan(200);
    expect(last).toBeGreaterThan(380);
    const gaps = reply.arrivals.slice(1).map((at, i) => at - must(reply.arrivals[i]));
    expect(Math.max(...gaps.slice(1))).toBeLessThan(250);
  });

  it("streams at about real time when no service time is set", async () => {
    park.setService({ speed: 1 });
    const reply = await ask(origin, {
      path: PATH,
      json: { text: "Hello there.", stream: true, format: "pcm" },
    });
    const heard = reply.body.length / 48;
    const took = must(reply.arrivals.at(-1));
    expect(took).toBeGreaterThan(heard * 0.8);
    expect(took).toBeLessThan(heard * 0.9 + 450);
  });

  it("is slowed down by a caller that does not read, and keeps its slot meanwhile", async () => {
    park.setService({ service_ms: 100, speech_s: 2_000, chunk_ms: 4_000 });
    const socket = write(origin, { path: PATH, json: { text: TEXT, stream: true } });
    socket.pause();
    await pause(400);
    expect(park.counts().running).toBe(1);
    socket.resume();
    await until(() => park.counts().running === 0);
    expect(park.counts()).toMatchObject({ done: 1, ghosts: 0 });
    socket.destroy();
  });

  it("makes a sound of the length set by speech_s, whatever the text", async () => {
    park.setService({ speech_s: 10 });
    const reply = await ask(origin, { path: PATH, json: { text: "Hi.", format: "pcm" } });
    expect(reply.body.length).toBe(480_000);
  });

  it.each([
    {},
    { text: "" },
    { text: 5 },
    { text: "x", stream: "maybe" },
    { text: "x", format: "mp3" },
    { text: "x", speed: 9 },
    { text: "a".repeat(6_001) },
  ])("answers invalid input with 422: %j", async (json) => {
    const reply = await ask(origin, { path: PATH, json });
    expect([reply.status, park.counts().starts]).toEqual([422, 0]);
  });

  it("stops at an interrupt and returns a valid, shorter WAV", async () => {
    park.setService({ service_ms: 600 });
    const [whole] = await Promise.all([
      ask(origin, { path: PATH, json: { text: TEXT } }),
      pause(200).then(() => ask(origin, { path: "/sdapi/v1/interrupt" })),
    ]);
    expect(whole.body.readUInt32LE(40)).toBe(whole.body.length - 44);
    expect((whole.body.length - 44) / 48_000).toBeLessThan(2);
  });
});

describe("CosyVoice's own routes", () => {
  const fields: Readonly<Record<string, readonly string[]>> = {
    inference_sft: ["tts_text", "spk_id"],
    inference_zero_shot: ["tts_text", "prompt_text", "prompt_wav"],
    inference_cross_lingual: ["tts_text", "prompt_wav"],
    inference_instruct: ["tts_text", "spk_id", "instruct_text"],
    inference_instruct2: ["tts_text", "instruct_text", "prompt_wav"],
  };

  it.each(Object.entries(fields))("%s streams samples without a content type, at both paths", async (name, names) => {
    for (const prefix of ["", "/AIVoice/TTS/CosyVoice2"]) {
      const form = new FormData();
      for (const field of names)
        form.set(field, field === "prompt_wav" ? new Blob([new Uint8Array(64)]) : "hello there");
      const request = new Request(origin, { method: "POST", body: form });
      const headers = { "content-type": must(request.headers.get("content-type")) };
      const reply = await ask(origin, {
        path: `${prefix}/${name}`,
        headers,
        body: Buffer.from(await request.arrayBuffer()),
      });
      expect([reply.status, header(reply, "content-type"), header(reply, "transfer-encoding")]).toEqual([
        200,
        null,
        "chunked",
      ]);
      expect(reply.body.length % 2).toBe(0);
      expect(reply.body.length).toBeGreaterThan(20_000);
    }
  });

  it.each(Object.entries(fields))("%s names every missing field", async (name, names) => {
    const reply = await ask(origin, {
      path: `/${name}`,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: Buffer.from("other=1"),
    });
    const { detail } = JSON.parse(reply.body.toString()) as { detail: { loc: string[] }[] };
    expect(reply.status).toBe(422);
    expect(detail.map(({ loc }) => loc[1]).toSorted()).toEqual(names.toSorted());
  });

  it("accept a form in a GET, and answer 400 to a broken form", async () => {
    const type = { "content-type": "application/x-www-form-urlencoded" };
    expect(
      (
        await ask(origin, {
          method: "GET",
          path: "/inference_sft",
          headers: type,
          body: Buffer.from("tts_text=hi&spk_id=anna"),
        })
      ).status,
    ).toBe(200);
    expect((await ask(origin, { method: "GET", path: "/inference_sft?tts_text=hi&spk_id=anna" })).status).toBe(200);
    const broken = { "content-type": "multipart/form-data; boundary=x" };
    expect((await ask(origin, { path: "/inference_sft", headers: broken, body: Buffer.from("no form") })).status).toBe(
      400,
    );
  });
});
