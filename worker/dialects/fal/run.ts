/**
 * `/fal/run`: runs a model and returns its output; with `/stream` as an event, or as the bytes while the card generates
 * them.
 */
import { readWhole } from "../../body/bounded.ts";
import { noRoom } from "../../body/body.ts";
import { Room } from "../../body/buffers.ts";
import { answerAsk, type Follower, type RenderedAnswer } from "../../answer.ts";
import type { CallContext } from "../../call-context.ts";
import type { Ask } from "../../ask.ts";
import type { Caller } from "../../auth.ts";
import { callerWith } from "../../caller/caller.ts";
import { isJson } from "../../body/fields.ts";
import { withoutImages } from "../../jobs/output.ts";
import { mediaTypeOf } from "../../results/media.ts";
import { imagesDueAt, NO_IMAGES, pieces } from "../../results/pieces.ts";
import { answerTooLarge, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import type { RunEnd } from "../../run.ts";
import { unlessLate } from "../../run/until.ts";
import { link } from "../../serve.ts";
import { askedOf, inputOf, isListed, optionsIn, serviceNamed } from "./request.ts";
import { outputOfPieces } from "./output.ts";
import type { App } from "./paths.ts";
import { failed, ownFailure, tooLate } from "./refusals.ts";

/** Largest answer that is parsed in memory; a larger one is refused. */
const ANSWER_BYTES_MAX = 24 * 1024 * 1024;
/** Longest that a complete answer waits for its results to be stored, ms. */
const STORED_MS_MAX = 10_000;
const STREAM = /(^|\/)stream$/;

export async function run(context: CallContext, app: App): Promise<Response | Refusal> {
  const caller = await callerWith("infer", context);
  if (isRefusal(caller)) return caller;
  const service = await serviceNamed(context, caller, app);
  if (isRefusal(service)) return service;
  const said = optionsIn(context.request);
  if (isRefusal(said)) return said;
  const input = await inputOf(context);
  if (isRefusal(input)) return input;
  const streamed = STREAM.test(app.path) && !isListed(service, app.path);
  const path = streamed ? app.path.replace(STREAM, "") : app.path;
  const ask = await askedOf(context, caller, service, { path, input, streamed });
  if (isRefusal(ask)) return ask;
  const { promise: end, resolve: ended } = Promise.withResolvers<RunEnd>();
  const shown = await startedWithin(context, caller, ask, said.startS, ended);
  if (isRefusal(shown)) return shown;
  return answer(context, ask, shown, streamed, end);
}

/** Runs the ask. If it has not started within `startS` seconds, it leaves the line and is refused. */
async function startedWithin(
  context: CallContext,
  caller: Caller,
  ask: Ask,
  startS: number | null,
  ended: (end: RunEnd) => void,
): Promise<RenderedAnswer | Refusal> {
  if (startS === null) return answerAsk(context, caller, ask, { follower: { gone: context.request.signal, ended } });
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), startS * 1000);
  const started = (): void => clearTimeout(timer);
  const follower: Follower = { gone: AbortSignal.any([context.request.signal, late.signal]), started, ended };
  const shown = await answerAsk(context, caller, ask, { follower }).finally(started);
  return isRefusal(shown) && late.signal.aborted ? tooLate(startS) : shown;
}

/** Renders the answer. `end`: how the run ended; never resolves if nothing was run. */
async function answer(
  context: CallContext,
  ask: Ask,
  shown: RenderedAnswer,
  streamed: boolean,
  end: Promise<RunEnd>,
): Promise<Response | Refusal> {
  const type = mediaTypeOf(shown.headers);
  const isMade = isJson(type) || (!streamed && /^(image|audio)\//.test(type ?? ""));
  if (shown.status < 400 && !isMade) return asItIs(context, shown);
  const room = new Room(context.request.signal);
  try {
    const bytes = await readWhole(new Response(shown.body).body, { max: ANSWER_BYTES_MAX, times: 3, room });
    if (bytes === "no_room") return { ...noRoom(), started: "yes" };
    if (bytes === "too_large") return answerTooLarge(ANSWER_BYTES_MAX);
    if (shown.status >= 400) return failed(ownFailure(shown.status, new TextDecoder().decode(bytes)), context.trace);
    const { status, headers } = shown;
    const found = pieces(ask, { status, headers, bytes, endKnown: true });
    if ("problem" in found) return refuse("origin_invalid", { started: "yes", facts: found.problem });
    if (found.length === 0 && imagesDueAt(ask) !== null)
      return refuse("origin_invalid", { started: "yes", facts: NO_IMAGES });
    // The results of a stream are stored after its end.
    const isLater = shown.body instanceof ReadableStream && found.length > shown.results.length;
    const stored = isLater ? await unlessLate(end, Date.now() + STORED_MS_MAX) : null;
    const output = await outputOfPieces(context, found, stored?.results ?? shown.results, withoutImages(bytes, type));
    return streamed ? asEvent(output) : Response.json(output);
  } catch {
    return refuse("origin_reset", { started: "yes" });
  } finally {
    room.free();
  }
}

async function asItIs(context: CallContext, { body, headers: own, results }: RenderedAnswer): Promise<Response> {
  const headers = new Headers();
  await link(context, headers, results);
  headers.set("content-type", own.get("content-type") ?? "application/octet-stream");
  return new Response(body, { headers });
}

/** A complete output is sent as a single event. */
function asEvent(output: unknown): Response {
  const headers = { "content-type": "text/event-stream; charset=utf-8" };
  return new Response(`data: ${JSON.stringify(output)}\n\n`, { headers });
}
