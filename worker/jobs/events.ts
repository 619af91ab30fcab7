/** `GET /v1/jobs/ID/events`: a job's events as they happen (server-sent events, WHATWG HTML 9.2). */
import { isOver, type JobEvent } from "../../durable-objects/job-protocol.ts";
import { callerWith } from "../caller/caller.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { whileAllowed } from "./allowed.ts";
import { findOwnJob } from "./api.ts";
import type { CallContext } from "../call-context.ts";
import { viewOf } from "./submit.ts";
import { jobView } from "./view.ts";

/** Longest wait of one call to the Job. If no event came, an SSE comment keeps the connection open. */
const ASK_MS = 15_000;
/** Maximum lifetime of a connection. The client reconnects by itself with the last id it saw. */
const LIFE_MS_MAX = 3_600_000;
/** A connection whose client reads nothing for this long is closed. */
const STALL_MS = 30_000;
/** Reconnection delay given to the client, in ms. */
const RECONNECT_MS = 2_000;
const CUT = new Error("the stream ends before the job");

export async function jobEvents(context: CallContext, id: string): Promise<Response | Refusal> {
  const caller = await callerWith("jobs", context);
  if (isRefusal(caller)) return caller;
  const view = await findOwnJob(context, caller, id);
  if (isRefusal(view)) return view;
  // No more events will come: 204 tells the client not to reconnect (WHATWG HTML 9.2.3).
  if (isOver(view.state.status) && lastOf(context) === view.state.seq) return new Response(null, { status: 204 });
  return tellEvents(context, caller.tenant, id, (event) => textOf(context, caller.tenant, id, event));
}

/**
 * Streams the job's events after `Last-Event-ID`. `tell` formats an event for the dialect; an empty string sends
 * nothing.
 */
export function tellEvents(
  context: CallContext,
  tenant: string,
  id: string,
  tell: (event: JobEvent) => Promise<string>,
): Response {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const work = send(context, tenant, id, lastOf(context), tell, writable);
  // When the client disconnects, the next write fails and ends this.
  context.ctx.waitUntil(work);
  const headers = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
  };
  return new Response(readable, { headers });
}

/** `Last-Event-ID`, or 0 if it is missing or not an id of ours. */
function lastOf({ request }: CallContext): number {
  const last = Number(request.headers.get("last-event-id") ?? 0);
  return Number.isSafeInteger(last) && last > 0 ? last : 0;
}

async function send(
  context: CallContext,
  tenant: string,
  id: string,
  from: number,
  tell: (event: JobEvent) => Promise<string>,
  writable: WritableStream<Uint8Array>,
): Promise<void> {
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const write = (text: string): Promise<void> => withTimeout(writer.write(encoder.encode(text)), STALL_MS);
  const until = Date.now() + LIFE_MS_MAX;
  let after = from;
  let isDone = false;
  try {
    await write(`retry: ${RECONNECT_MS}\n\n`);
    while (Date.now() < until && !context.request.signal.aborted) {
      const asked = withTimeout(context.env.JOB.getByName(id).events(after, ASK_MS), 2 * ASK_MS);
      const events = await whileAllowed(context, asked);
      if (isRefusal(events)) break;
      if (events.length === 0) {
        const view = await viewOf(context.env, tenant, id);
        // All events were sent before this connection was opened, or the job no longer exists.
        isDone = isRefusal(view) || isOver(view.state.status);
        if (isDone) break;
        await write(": still here\n\n");
      }
      for (const event of events) {
        await write(await tell(event));
        after = event.id;
        isDone = event.type === "done";
        if (isDone) return;
      }
    }
  } catch (error) {
    if (!context.request.signal.aborted)
      console.warn(JSON.stringify({ event: "events_cut", job: id, error: String(error) }));
  } finally {
    // A stream that ends before the job does must not look complete.
    await (isDone ? withTimeout(writer.close(), STALL_MS) : writer.abort(CUT)).catch(() => writer.abort(CUT));
  }
}

async function textOf(context: CallContext, tenant: string, id: string, event: JobEvent): Promise<string> {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(await dataOf(context, tenant, id, event))}\n\n`;
}

async function dataOf(context: CallContext, tenant: string, id: string, event: JobEvent): Promise<unknown> {
  const { status, progress, position } = event;
  if (event.type === "position") return { id, status, queue_position: position };
  if (event.type === "progress") return { id, status, progress };
  if (event.type === "state") return { id, status };
  const view = await viewOf(context.env, tenant, id);
  return isRefusal(view) ? { id, status } : jobView(context, view);
}
