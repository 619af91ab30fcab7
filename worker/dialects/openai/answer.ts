/** Converts an origin's answer for the OpenAI dialect: its images, or its own error. */
import { readWhole } from "../../body/bounded.ts";
import { noRoom } from "../../body/body.ts";
import { Room } from "../../body/buffers.ts";
import { isJson } from "../../body/fields.ts";
import { listAt, nameGiven, type Task } from "../mapping.ts";
import { mediaTypeOf } from "../../results/media.ts";
import { NO_IMAGES } from "../../results/pieces.ts";
import { complaintOf } from "../../run/complaint.ts";
import { answerTooLarge, type Refusal, isRefusal, refuse } from "../../refusal.ts";
import type { RenderedAnswer } from "../../answer.ts";
import type { Trace } from "../../trace.ts";

/** The dialect reports token counts; cards do not count tokens. */
export const NO_USAGE = { input_tokens: 0, output_tokens: 0, total_tokens: 0 };

/** Largest answer with images; it is parsed in memory, and a larger one is refused. */
const ANSWER_BYTES_MAX = 24 * 1024 * 1024;

/** Returns the images of an answer in base64. */
export async function imagesOf({ body, headers }: RenderedAnswer, task: Task): Promise<string[] | Refusal> {
  const room = new Room();
  try {
    const bytes = await bytesOf(body, room);
    if (isRefusal(bytes)) return bytes;
    if (task.results === null || !isJson(mediaTypeOf(headers))) return [bytes.toBase64()];
    const images = listAt(JSON.parse(new TextDecoder().decode(bytes)), task.results);
    if (images.length === 0) return refuse("origin_invalid", { started: "yes", facts: NO_IMAGES });
    return images.filter((each) => typeof each === "string").map((each) => each.replace(/^data:[^,]{0,200},/, ""));
  } finally {
    room.free();
  }
}

async function bytesOf(body: BodyInit | null, room: Room): Promise<Uint8Array<ArrayBuffer> | Refusal> {
  try {
    // Three copies: the bytes, their text, and the images in it.
    const bytes = await readWhole(new Response(body).body, { max: ANSWER_BYTES_MAX, times: 3, room });
    if (bytes === "no_room") return { ...noRoom(), started: "yes" };
    return bytes === "too_large" ? answerTooLarge(ANSWER_BYTES_MAX) : bytes;
  } catch {
    return refuse("origin_reset", { started: "yes" });
  }
}

interface OriginError {
  message: string;
  type: string;
  param: string | null;
  code: string;
  reason: null;
  retryable: boolean;
  started: string;
  request_id: string;
}

/** Converts an origin's own 4xx to the dialect's error format: its message and the field that it names. */
export async function originError(shown: RenderedAnswer, task: Task, trace: Trace): Promise<OriginError> {
  const room = new Room();
  try {
    const bytes = await bytesOf(shown.body, room);
    const text = isRefusal(bytes) ? "" : new TextDecoder().decode(bytes);
    const { message, field } = complaintOf(text);
    return {
      message: message ?? `the model's server answered with status ${shown.status}`,
      type: "invalid_request_error",
      param: field === null ? null : nameGiven(task, field, null),
      code: "invalid_request",
      reason: null,
      retryable: false,
      started: "unknown",
      request_id: trace.id,
    };
  } finally {
    room.free();
  }
}

/** Renders `originError` as a response with the origin's status. */
export async function originAnswer(shown: RenderedAnswer, task: Task, trace: Trace): Promise<Response> {
  const error = await originError(shown, task, trace);
  const retryAfter = shown.headers.get("retry-after");
  return Response.json(
    { error },
    { status: shown.status, headers: retryAfter === null ? {} : { "retry-after": retryAfter } },
  );
}

/** Unix time in seconds, as the OpenAI API has it. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
