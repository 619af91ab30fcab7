/** `read` paths: quick calls to an origin that take no slot. Any card that accepts work may answer. */
import type { AccessToken } from "../../durable-objects/card-protocol.ts";
import type { Env } from "../env.ts";
import type { Ask } from "../ask.ts";
import type { Caller } from "../auth.ts";
import { Room } from "../body/buffers.ts";
import { asRefusal, type Call, callOrigin, type Failure, isFailure } from "../origin.ts";
import { responseHeaders } from "./headers.ts";
import { pump } from "./pump.ts";
import { end, record } from "./record.ts";
import { isRefusal, type Refusal, refuse } from "../refusal.ts";
import { ReadTimeout } from "./read-timeout.ts";
import { Source } from "./source.ts";
import { saidLength } from "./take.ts";
import type { Trace } from "../trace.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

/** Longest silence of an origin on such a call, ms. */
const READ_MS = 15_000;
/** `Retry-After` when no card takes work: about half of the longest that a 503 may name. */
const RETRY_MS = 15_000;

export interface Reading {
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  caller: Caller;
  ask: Ask;
  trace: Trace;
  call: Omit<Call, "number" | "cacheable" | "readMs">;
  access: AccessToken | null;
  provision: () => Promise<void>;
  /** Aborted when the caller hangs up. */
  gone: AbortSignal;
}

export async function readOrigin(reading: Reading): Promise<Response | Refusal> {
  const answer = await askOrigin(reading);
  return isRefusal(answer) ? end(reading, "failed", answer) : answer;
}

async function askOrigin(reading: Reading): Promise<Response | Refusal> {
  const { env, ask, trace, provision } = reading;
  const { tries } = ask.service.config.retry;
  let last: Failure | null = null;
  const tried: string[] = [];
  for (let i = 0; i < tries; i++) {
    const { card, behind } = await withTimeout(
      env.POOL.getByName(ask.service.id).healthyCard(tried, ask.service.version),
    );
    if (behind) {
      await provision();
      continue;
    }
    const listing = card === null ? null : await withTimeout(env.CARD.getByName(card).listing(ask.service.id));
    if (card === null || listing === null) break;
    tried.push(card);
    const controller = new AbortController();
    const readTimeout = new ReadTimeout(READ_MS, controller);
    const upload = ask.body.kind === "stream" ? ask.body.upload : null;
    if (upload !== null) upload.broken = () => controller.abort(new Error("the caller's body broke off"));
    const route = { card, origin: listing.origin, transport: listing.transport, access: reading.access };
    const sentAt = Date.now();
    const reply = await callOrigin(
      ask,
      route,
      { ...reading.call, number: null, cacheable: false, readMs: READ_MS },
      controller,
      readTimeout,
    );
    trace.stages.origin = Date.now() - sentAt;
    if (!isFailure(reply)) return handOn(reading, reply, card, controller, readTimeout);
    readTimeout.stop();
    if (upload !== null && upload.refusal !== null) return upload.refusal;
    last = reply;
    if (upload !== null) break;
  }
  return last === null ? refuse("no_healthy_card", { retryAfterMs: RETRY_MS }) : asRefusal(last);
}

async function handOn(
  reading: Reading,
  response: Response,
  card: string,
  controller: AbortController,
  readTimeout: ReadTimeout,
): Promise<Response> {
  const { ask, ctx, trace, gone } = reading;
  trace.headers.set("x-portico-card", card);
  trace.headers.set("cache-status", "portico; fwd=bypass");
  Object.assign(trace.fields, { card, cache: "bypass" });
  const headers = responseHeaders(response, ask);
  const { status } = response;
  const state = status < 400 ? "succeeded" : "failed";
  if (response.body === null || ask.method === "HEAD") {
    readTimeout.stop();
    await record(reading, state, status, [], "all", {});
    return new Response(null, { status, headers });
  }
  const source = new Source(response.body);
  const flow = pump({ source, first: [], room: new Room(), length: saidLength(response), readTimeout, copy: null });
  // When the caller is gone, the rest is not needed.
  ctx.waitUntil(flow.drained.finally(() => controller.abort()));
  const after = async (): Promise<void> => {
    const { complete, handed: bytes } = await flow.ended;
    const reason = complete ? null : gone.aborted ? "client_gone" : "origin_reset";
    await record(reading, complete ? state : "failed", status, [], complete ? "all" : "nothing", { bytes, reason });
  };
  ctx.waitUntil(after());
  return new Response(flow.readable, { status, headers });
}
