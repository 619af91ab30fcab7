/** `/v1/audio/speech`: text to sound, streamed as the card generates it. */
import type { Ask } from "../../ask.ts";
import type { Caller } from "../../auth.ts";
import { BUFFERED_BYTES_MAX } from "../../body/body.ts";
import { callerWith } from "../../caller/caller.ts";
import { isJson } from "../../body/fields.ts";
import { Events, toldIn } from "../../api/events.ts";
import { checkedBody } from "../../api/json-body.ts";
import type { Task } from "../mapping.ts";
import { mediaTypeOf } from "../../results/media.ts";
import { tellPosition } from "../../run/position.ts";
import { detail, type Detail } from "../../details.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import { answerAsk, type RenderedAnswer } from "../../answer.ts";
import type { CallContext } from "../../call-context.ts";
import { link } from "../../serve.ts";
import { asPcm, asWav, soundOf } from "../../results/wav.ts";
import { askFor, chosen } from "../task.ts";
import { NO_USAGE, originAnswer } from "./answer.ts";
import { givenTo, SpeechBody } from "./words.ts";

const BODY = { bytesMax: BUFFERED_BYTES_MAX, depthMax: 64, emptyIsObject: false };
const SAMPLE_RATE_HZ = 24_000;

/** A parsed request for a sound. */
interface Made {
  task: Task;
  format: Format;
  ask: Ask;
}

type Format = NonNullable<SpeechBody["response_format"]>;

/** `wav` and `pcm` differ only by a header: each is converted from the other. */
const isPlain = (format: Format): format is "wav" | "pcm" => format === "wav" || format === "pcm";
/** Media types that origins use for these two. */
const PLAIN_TYPES = new Set([
  "audio/pcm",
  "audio/l16",
  "audio/wav",
  "audio/x-wav",
  "audio/wave",
  "application/octet-stream",
]);

export async function speak(context: CallContext): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const checked = await checkedBody(context.request, SpeechBody, BODY);
  return isRefusal(checked) ? checked : say(context, caller, checked.body);
}

async function say(context: CallContext, caller: Caller, body: SpeechBody): Promise<Response | Refusal> {
  const choice = await chosen(context, caller, "speech", body.model ?? null);
  if (isRefusal(choice)) return choice;
  const { task } = choice;
  const format = body.response_format ?? (task.formats.includes("mp3") ? "mp3" : "wav");
  const from = formatFrom(task, format);
  if (from === null) return invalid("response_format", "formats", { formats: givenFormats(task).join(", ") });
  const ask = await askFor(context, caller, choice, givenTo(task, { ...body, response_format: from }));
  if (isRefusal(ask)) return ask;
  const made = { task, format, ask };
  if (body.stream_format === "sse") return sayInEvents(context, caller, made);
  const shown = await answerAsk(context, caller, ask);
  return isRefusal(shown) ? shown : sound(context, made, shown);
}

async function sayInEvents(context: CallContext, caller: Caller, made: Made): Promise<Response | Refusal> {
  const { request, env, trace } = context;
  const events = new Events(request.signal, trace);
  let over = false;
  const started = (): void => void (over = true);
  const work = answerAsk(context, caller, made.ask, { follower: { gone: events.gone, started } })
    .then((shown) => (isRefusal(shown) ? shown : sound(context, made, shown)))
    .finally(started);
  const meanwhile = (): void => void tellPosition(env, made.ask, trace.id, events, () => over);
  return toldIn(events, work, { instead: notOk, meanwhile, tell: (response) => deltas(events, response) });
}

async function notOk(response: Response): Promise<Response | null> {
  return response.ok ? null : response;
}

/** Returns the format to request from the origin; null: the wanted one is not available. */
function formatFrom({ formats }: Task, wanted: Format): Format | null {
  if (!isPlain(wanted)) return formats.includes(wanted) ? wanted : null;
  // `wav` and `pcm` request the same format, so that both share one stored answer.
  return formats.includes("wav") ? "wav" : formats.includes("pcm") ? "pcm" : null;
}

function givenFormats({ formats }: Task): string[] {
  const both = formats.some((format) => format === "wav" || format === "pcm") ? ["wav", "pcm"] : [];
  return [...new Set([...both, ...formats])];
}

async function sound(context: CallContext, { task, format }: Made, shown: RenderedAnswer): Promise<Response | Refusal> {
  if (shown.status >= 400) return originAnswer(shown, task, context.trace);
  const headers = new Headers();
  await link(context, headers, shown.results);
  const type = mediaTypeOf(shown.headers);
  const source = new Response(shown.body).body;
  const isText = isJson(type) || type?.startsWith("text/") === true;
  if (isText && source !== null) return notThat(source, detail("wrong_type", { type: type ?? "" }));
  if (!isPlain(format) || source === null) {
    headers.set("content-type", type ?? "application/octet-stream");
    return new Response(source, { headers });
  }
  if (type !== null && !PLAIN_TYPES.has(type)) return notThat(source, detail("wrong_type", { type }));
  const found = await soundOf(source as ReadableStream<Uint8Array>).catch(() =>
    refuse("origin_reset", { started: "yes" }),
  );
  if (found === null) return refuse("origin_invalid", { started: "yes", facts: detail("wav_empty") });
  if (isRefusal(found)) return found;
  if (found.head.byteLength === 0) return notThat(found.reader, detail("empty_sound"));
  if (format === "pcm" && found.wav?.plain === false) return notThat(found.reader, detail("wav_format"));
  headers.set("content-type", `audio/${format}`);
  return new Response(format === "wav" ? asWav(found, task.sample_rate_hz ?? SAMPLE_RATE_HZ) : asPcm(found), {
    headers,
  });
}

async function notThat(source: { cancel(): Promise<void> }, facts: Detail): Promise<Refusal> {
  await source.cancel();
  return refuse("origin_invalid", { started: "yes", facts });
}

/** Sends the sound as delta events. Returns a refusal if the stream breaks. */
async function deltas(events: Events, response: Response): Promise<void | Refusal> {
  if (!response.ok) return events.fail((await response.json<{ error: object }>()).error);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const read = await reader.read().catch(() => null);
    if (read === null) return refuse("origin_reset", { started: "yes" });
    if (read.done) break;
    if (events.gone.aborted) return reader.cancel();
    await events.event({ type: "speech.audio.delta", audio: read.value.toBase64() });
  }
  await events.event({ type: "speech.audio.done", usage: NO_USAGE });
}
