/**
 * Server-sent events (WHATWG HTML 9.2) to one caller, and a helper that reports the outcome of work in them. Sends
 * pings while there is nothing else to send; a failed stream never ends like a successful one.
 */
import { errorObject } from "../dialects/native.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import type { Trace } from "../trace.ts";
import { unlessLate } from "../run/until.ts";

/** Interval of pings. */
const PING_MS = 15_000;
/** A caller that reads nothing for this long is disconnected. */
const STALL_MS = 30_000;
/** Most bytes buffered for one caller; beyond this, `event` waits. */
const QUEUE_BYTES_MAX = 256 * 1024;
/** Work that ends within this time is answered with its own status: clients retry a status, but not an error event. */
const HEAD_MS = 1_000;

const encoder = new TextEncoder();

export class Events {
  readonly #stream: ReadableStream<Uint8Array>;
  readonly #trace: Trace;
  readonly #left = new AbortController();
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #ping: ReturnType<typeof setInterval> | null = null;
  #wake: () => void = () => undefined;

  constructor(caller: AbortSignal, trace: Trace) {
    this.#trace = trace;
    this.#stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => void (this.#controller = controller),
        pull: () => this.#wake(),
        cancel: () => this.#leave(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: QUEUE_BYTES_MAX }),
    );
    if (caller.aborted) this.#leave();
    else caller.addEventListener("abort", () => this.#leave(), { once: true });
  }

  /** Aborted when the caller has disconnected. */
  get gone(): AbortSignal {
    return this.#left.signal;
  }

  response(): Response {
    this.#ping = setInterval(() => this.comment("ping"), PING_MS);
    return new Response(this.#stream, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
  }

  /** Resolves when there is room for more. */
  async event(data: { type: string } & Record<string, unknown>): Promise<void> {
    this.#put(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
    await this.#room();
  }

  /** Sends an SSE comment, which clients ignore. */
  comment(text: string): void {
    this.#put(`: ${text}\n\n`);
  }

  /** Ends the stream with an error event, which clients raise as an error. */
  refuse(refusal: Refusal): void {
    this.#trace.fields["reason"] = refusal.reason;
    this.fail(errorObject(refusal, this.#trace));
  }

  fail(error: object): void {
    this.#put(`data: ${JSON.stringify({ error })}\n\n`);
    this.end();
  }

  end(): void {
    this.#controller?.close();
    this.#close();
  }

  // Private

  #put(text: string): void {
    this.#controller?.enqueue(encoder.encode(text));
  }

  async #room(): Promise<void> {
    const until = Date.now() + STALL_MS;
    while (this.#controller !== null && (this.#controller.desiredSize ?? 0) <= 0) {
      const pulled = new Promise<true>((resolve) => (this.#wake = () => resolve(true)));
      if ((await unlessLate(pulled, until)) !== null) continue;
      this.#controller?.error(new Error("the caller takes nothing"));
      this.#leave();
    }
  }

  #leave(): void {
    this.#close();
    this.#left.abort();
  }

  #close(): void {
    this.#controller = null;
    if (this.#ping !== null) clearInterval(this.#ping);
    this.#wake();
  }
}

/** How to report the outcome of work. */
export interface Telling<T> {
  /** The response for an early outcome that is not a success; null: it is one. */
  instead: (outcome: T) => Promise<Response | null>;
  /** Called when the work takes longer than HEAD_MS. */
  meanwhile: () => void;
  /** Sends the events for the outcome; the stream ends afterwards. */
  tell: (outcome: T) => Promise<void | Refusal>;
}

/** A refusal or failure within HEAD_MS becomes the response itself; anything later is sent in the stream. */
export async function toldIn<T>(
  events: Events,
  work: Promise<T | Refusal>,
  { instead, meanwhile, tell }: Telling<T>,
): Promise<Response | Refusal> {
  const early = await unlessLate(work, Date.now() + HEAD_MS);
  if (isRefusal(early)) return early;
  const other = early === null ? null : await instead(early);
  if (other !== null) return other;
  const response = events.response();
  if (early === null) meanwhile();
  void finish(events, work, tell);
  return response;
}

async function finish<T>(
  events: Events,
  work: Promise<T | Refusal>,
  tell: (outcome: T) => Promise<void | Refusal>,
): Promise<void> {
  try {
    const outcome = await work;
    const refusal = isRefusal(outcome) ? outcome : await tell(outcome);
    if (isRefusal(refusal)) events.refuse(refusal);
    else events.end();
  } catch (error) {
    console.error(JSON.stringify({ event: "crash", error: String(error) }));
    events.refuse(refuse("internal", { started: "unknown" }));
  }
}
