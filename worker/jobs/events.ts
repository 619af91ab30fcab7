/** `GET /v1/jobs/ID/events`: a job's events as they come (server-sent events, WHATWG HTML 9.2). */
import { isOver, type JobEvent } from "../../durable-objects/job-protocol.ts";
import { callerWith } from "../caller/caller.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import { answered } from "../../durable-objects/answer-protocol.ts";
import { whileAllowed } from "./allowed.ts";
import { seen } from "./api.ts";
import type { Mouth } from "../mouth.ts";
import { viewOf } from "./submit.ts";
import { jobView } from "./view.ts";

/** One question to the Job waits so long; where nothing came, a comment keeps the connection open. */
const ASK_MS = 15_000;
/** Longest life of one connection: the client comes back by itself, with the last id it saw. */
const LIFE_MS_MAX = 3_600_000;
/** A client that takes nothing for so long is cut. */
const STALL_MS = 30_000;
/** When a client whose connection was cut is to come back, ms. */
const RECONNECT_MS = 2_000;

export async function jobEvents(mouth: Mouth, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", mouth);
  if (isRefusal(caller)) return caller;
  const view = await seen(mouth, caller, id);
  if (isRefusal(view)) return view;
  // Nothing more will come: a client that hears so stays away (WHATWG HTML 9.2.3).
  if (isOver(view.state.status) && lastOf(mouth) === view.state.seq) return new Response(null, { status: 204 });
  return tellEvents(mouth, caller.tenant, id, (event) => textOf(mouth, caller.tenant, id, event));
}

/** A job's events after `Last-Event-ID`, each as its dialect tells it; empty: not at all. */
export function tellEvents(
  mouth: Mouth,
  tenant: string,
  id: string,
  tell: (event: JobEvent) => Promise<string>,
): Response {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const work = send(mouth, tenant, id, lastOf(mouth), tell, writable);
  // Who hangs up ends it: the next write fails.
  mouth.ctx.waitUntil(work);
  const headers = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
  };
  return new Response(readable, { headers });
}

/** `Last-Event-ID`; 0: none, or one that we never give. */
function lastOf({ request }: Mouth): number {
  const last = Number(request.headers.get("last-event-id") ?? 0);
  return Number.isSafeInteger(last) && last > 0 ? last : 0;
}

async function send(
  mouth: Mouth,
  tenant: string,
  id: string,
  from: number,
  tell: (event: JobEvent) => Promise<string>,
  writable: WritableStream<Uint8Array>,
): Promise<void> {
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const write = (text: string): Promise<void> => answered(writer.write(encoder.encode(text)), STALL_MS);
  const until = Date.now() + LIFE_MS_MAX;
  let after = from;
  try {
    await write(`retry: ${RECONNECT_MS}\n\n`);
    while (Date.now() < until && !mouth.request.signal.aborted) {
      const asked = answered(mouth.env.JOB.getByName(id).events(after, ASK_MS), 2 * ASK_MS);
      const events = await whileAllowed(mouth, asked);
      if (isRefusal(events)) break;
      if (events.length === 0) {
        const view = await viewOf(mouth.env, tenant, id);
        // All was told before this connection, or the job is forgotten.
        if (isRefusal(view) || isOver(view.state.status)) break;
        await write(": still here\n\n");
      }
      for (const event of events) {
        await write(await tell(event));
        after = event.id;
        if (event.type === "done") return;
      }
    }
  } catch (error) {
    if (!mouth.request.signal.aborted)
      console.warn(JSON.stringify({ event: "events_cut", job: id, error: String(error) }));
  } finally {
    await answered(writer.close(), STALL_MS).catch(() => writer.abort());
  }
}

async function textOf(mouth: Mouth, tenant: string, id: string, event: JobEvent): Promise<string> {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(await dataOf(mouth, tenant, id, event))}\n\n`;
}

async function dataOf(mouth: Mouth, tenant: string, id: string, event: JobEvent): Promise<unknown> {
  const { status, progress, position } = event;
  if (event.type === "position") return { id, status, queue_position: position };
  if (event.type === "progress") return { id, status, progress };
  if (event.type === "state") return { id, status };
  const view = await viewOf(mouth.env, tenant, id);
  return isRefusal(view) ? { id, status } : jobView(mouth, view);
}
