/** The CosyVoice server of a card: the product's own JSON route, and the five routes of its FastAPI. */
import { createHash } from "node:crypto";
import { turnAway } from "./delivery.ts";
import { loadOf } from "./exchange.ts";
import type { Bench, Exchange, Route, Upload } from "./exchange.ts";
import { Fields, jsonObject } from "./fields.ts";
import { readForm } from "./form.ts";
import type { Form } from "./form.ts";
import { perform } from "./perform.ts";
import { speechSamples } from "./speech.ts";
import { performStream } from "./stream.ts";
import { speechMs } from "./timing.ts";
import { BYTES_PER_SAMPLE, BYTES_PER_SECOND, wavHeader, wavOf } from "./wav.ts";

/** About half an hour of Chinese speech. */
const TEXT_CHARS_MAX = 6_000;

interface Utterance {
  readonly text: string;
  readonly voice: string;
  readonly speed: number;
}

/** The text fields and files that each of the five routes requires. */
const INFERENCE: Readonly<Record<string, { readonly texts: readonly string[]; readonly wav: boolean }>> = {
  inference_sft: { texts: ["tts_text", "spk_id"], wav: false },
  inference_zero_shot: { texts: ["tts_text", "prompt_text"], wav: true },
  inference_cross_lingual: { texts: ["tts_text"], wav: true },
  inference_instruct: { texts: ["tts_text", "spk_id", "instruct_text"], wav: false },
  inference_instruct2: { texts: ["tts_text", "instruct_text"], wav: true },
};

export const COSYVOICE_ROUTES: readonly Route[] = [
  { methods: ["POST"], tail: "/audio-generate", as: "run", handle: generate },
  ...Object.keys(INFERENCE).map((name): Route => ({
    methods: ["GET", "POST"],
    tail: `/${name}`,
    as: "run",
    handle: (bench, exchange, upload) => infer(bench, exchange, upload, name),
  })),
];

async function generate(bench: Bench, exchange: Exchange, upload: Upload): Promise<void> {
  const parsed = jsonObject(upload.body, exchange.req.headers["content-type"]);
  const fields = new Fields(parsed.ok ? parsed.value : {});
  const text = fields.required("text");
  const utterance = {
    text,
    voice: fields.text("voice", "default"),
    speed: fields.number("speed", 1, 0.25, 4),
  };
  const streamed = fields.flag("stream", false);
  const format = fields.choice("format", ["wav", "pcm"]);
  if (text.length > TEXT_CHARS_MAX)
    fields.wrong(
      "text",
      `ensure this value has at most ${TEXT_CHARS_MAX} characters`,
      "value_error.any_str.max_length",
    );
  if (!parsed.ok) return turnAway(bench, exchange, 422, [parsed.detail]);
  if (fields.details.length > 0) return turnAway(bench, exchange, 422, fields.details);
  if (streamed) return stream(bench, exchange, upload, utterance, format);
  await whole(bench, exchange, upload, utterance, format);
}

/** An invalid field, as FastAPI's validation reports it. */
const wrong = (field: string, type: string, msg: string) => ({ type, loc: ["body", field], msg, input: null });

async function infer(bench: Bench, exchange: Exchange, upload: Upload, name: string): Promise<void> {
  const form = await readForm(exchange, upload.body);
  if (form === null) return turnAway(bench, exchange, 400, "There was an error parsing the body");
  const { texts, wav } = INFERENCE[name] ?? { texts: [], wav: false };
  const missing = [
    ...texts.filter((field) => !form.texts.get(field)),
    ...(wav && !form.files.has("prompt_wav") ? ["prompt_wav"] : []),
  ];
  const details = missing.map((field) => wrong(field, "missing", "Field required"));
  const text = form.texts.get("tts_text") ?? "";
  if (details.length === 0 && text.length > TEXT_CHARS_MAX)
    details.push(wrong("tts_text", "string_too_long", `String should have at most ${TEXT_CHARS_MAX} characters`));
  if (details.length > 0) return turnAway(bench, exchange, 422, details);
  await stream(bench, exchange, upload, { text, voice: voiceOf(form), speed: 1 }, null);
}

/** The voice: a named speaker or an uploaded recording, either one varied by the instructions. */
function voiceOf({ texts, files }: Form): string {
  const wav = files.get("prompt_wav");
  const sample = wav ? createHash("sha1").update(wav).digest("hex") : "";
  return [texts.get("spk_id") ?? "", texts.get("instruct_text") ?? "", sample].join("|");
}

/** Bytes of the sound: by the length of the text, or the fixed length set for all sounds. */
function lengthOf(bench: Bench, { text, speed }: Utterance): number {
  const { speech_s } = bench.service;
  return (
    BYTES_PER_SAMPLE *
    (speech_s === null ? speechSamples(text, speed) : Math.round((speech_s * BYTES_PER_SECOND) / BYTES_PER_SAMPLE))
  );
}

function soundMs(bytes: number): number {
  return (bytes / BYTES_PER_SECOND) * 1_000;
}

/** The bytes of a sound between `from` and `to`; the sound repeats if it is shorter. */
function looped(sound: Buffer, from: number, to: number): Buffer {
  if (to <= sound.length) return sound.subarray(from, to);
  const out = Buffer.allocUnsafe(to - from);
  for (let at = 0; at < out.length;) at += sound.copy(out, at, (from + at) % sound.length);
  return out;
}

async function whole(
  bench: Bench,
  exchange: Exchange,
  upload: Upload,
  utterance: Utterance,
  format: "wav" | "pcm",
): Promise<void> {
  const bytes = lengthOf(bench, utterance);
  const plan = {
    ms: speechMs(bench.service, soundMs(bytes), false, loadOf(exchange, upload)),
    prompt: utterance.text,
  };
  await perform(
    bench,
    exchange,
    plan,
    (gone) => bench.workshop.make({ kind: "speech", ...utterance }, gone),
    (sound, work) => {
      const reached = work.cut === "interrupted" ? work.progress : 1;
      const samples = looped(sound, 0, BYTES_PER_SAMPLE * Math.ceil((bytes / BYTES_PER_SAMPLE) * reached));
      if (exchange.fault?.kind === "bad_image") return { contentType: "audio/wav", body: Buffer.from("not a sound") };
      return format === "wav"
        ? { contentType: "audio/wav", body: wavOf(samples) }
        : { contentType: "audio/pcm", body: samples };
    },
  );
}

/** `format` null: as CosyVoice's own routes, raw samples without a content type. */
async function stream(
  bench: Bench,
  exchange: Exchange,
  upload: Upload,
  utterance: Utterance,
  format: "wav" | "pcm" | null,
): Promise<void> {
  const bytes = lengthOf(bench, utterance);
  const plan = {
    ms: speechMs(bench.service, soundMs(bytes), true, loadOf(exchange, upload)),
    prompt: utterance.text,
  };
  const header = format === "wav" ? wavHeader(null) : Buffer.alloc(0);
  const chunkBytes =
    BYTES_PER_SAMPLE * Math.max(1, Math.round((bench.service.chunk_ms * BYTES_PER_SECOND) / 1_000 / BYTES_PER_SAMPLE));
  await performStream(bench, exchange, plan, {
    contentType: format === null ? null : `audio/${format}`,
    bytes,
    chunkBytes,
    header,
    make: async (gone) => {
      const sound = await bench.workshop.make({ kind: "speech", ...utterance }, gone);
      return (from, to) => looped(sound, from, to);
    },
  });
}
