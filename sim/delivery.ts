/**
 * Sends an answer's bytes to the caller, damaged if a fault says so. Every answer, whole or in chunks, is written
 * through one Sender.
 */
import type { ServerResponse } from "node:http";
import type { Bench, Exchange } from "./exchange.ts";
import type { Fault } from "./faults.ts";
import { sleep } from "./clock.ts";

type Headers = Record<string, string | number>;

/** A reset right after the last bytes may overtake them, so it is delayed. */
const BEFORE_RESET_MS = 20;
const TRICKLE_STEP_MS = 50;
const SERVER = "uvicorn";
export const JSON_TYPE = { "content-type": "application/json" } as const;

export class Sender {
  readonly #exchange: Exchange;
  readonly #total: number;
  readonly #framing: "length" | "chunked";
  #cutAt: number;
  #sent = 0;
  #closed = false;
  #spoiled = false;

  /** `total` is the answer's length; with "chunked" it is not sent to the caller. */
  constructor(exchange: Exchange, total: number, framing: "length" | "chunked") {
    this.#exchange = exchange;
    this.#total = total;
    this.#framing = framing;
    this.#cutAt = cutOf(exchange.fault, total);
  }

  /** Whether a fault has cut the answer for good. */
  get spoiled(): boolean {
    return this.#spoiled;
  }

  head(status: number, headers: Headers): void {
    const { res, fault } = this.#exchange;
    if (res.destroyed) return;
    const all: Headers = { server: SERVER, ...headers };
    const told =
      fault?.kind === "truncate" && fault.how === "content" ? Math.min(this.#total, this.#cutAt) : this.#total;
    if (this.#stated()) all["content-length"] = told;
    if (fault?.kind === "huge_header") all["x-filler"] = "f".repeat(fault.bytes);
    res.writeHead(status, all);
    res.flushHeaders();
  }

  /** Resolves when the caller can accept more, or has left. */
  async write(chunk: Buffer): Promise<void> {
    const room = this.#cutAt - this.#sent;
    if (chunk.length < room) return this.#put(chunk);
    if (!this.#closed) {
      await this.#put(chunk.subarray(0, room));
      await this.#cut();
    }
    const rest = chunk.subarray(room);
    if (rest.length > 0 && !this.#closed) await this.#put(rest);
  }

  async end(): Promise<void> {
    const { res } = this.#exchange;
    if (this.#closed || res.destroyed) return;
    this.#closed = true;
    res.end();
    await finished(this.#exchange);
  }

  #stated(): boolean {
    const { fault } = this.#exchange;
    return fault?.kind === "truncate" && fault.how !== "content" ? fault.how === "length" : this.#framing === "length";
  }

  async #put(bytes: Buffer): Promise<void> {
    const { fault } = this.#exchange;
    this.#sent += bytes.length;
    if (fault?.kind !== "trickle") return this.#push(bytes);
    const step = Math.max(1, Math.round((fault.bytes_per_s * TRICKLE_STEP_MS) / 1_000));
    for (let at = 0; at < bytes.length && !this.#exchange.res.destroyed; at += step) {
      await this.#push(bytes.subarray(at, at + step));
      await sleep(Math.max(TRICKLE_STEP_MS, 1_000 / fault.bytes_per_s));
    }
  }

  async #push(bytes: Buffer): Promise<void> {
    const { res } = this.#exchange;
    if (this.#closed || res.destroyed || bytes.length === 0) return;
    if (res.write(bytes)) return;
    await happened(res, "drain");
  }

  async #cut(): Promise<void> {
    const { res, fault } = this.#exchange;
    if (res.destroyed) return;
    if (fault?.kind === "stall") {
      this.#cutAt = Infinity;
      await happened(res, "close", fault.ms);
      this.#spoiled = res.destroyed;
      return;
    }
    this.#spoiled = !(fault?.kind === "reset" && fault.goes_on);
    this.#closed = true;
    if (fault?.kind === "truncate" && fault.how === "content") res.end();
    else if (fault?.kind === "truncate") res.socket?.destroySoon();
    else {
      await sleep(BEFORE_RESET_MS);
      res.socket?.resetAndDestroy();
    }
  }
}

/** The byte at which a fault cuts an answer; Infinity when none does. */
function cutOf(fault: Fault | null, total: number): number {
  const cuts =
    fault?.kind === "truncate" || fault?.kind === "stall" || (fault?.kind === "reset" && fault.at === "body");
  return cuts ? Math.max(0, Math.min(total - 1, Math.floor(total * fault.fraction))) : Infinity;
}

async function finished({ res }: Exchange): Promise<void> {
  if (!res.closed) await happened(res, "close");
}

/** Waits for the event or the end of the connection, at most `maxMs`; removes its listeners. */
function happened(res: ServerResponse, event: "drain" | "close", maxMs?: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = maxMs === undefined ? null : setTimeout(() => done(), maxMs);
    const done = (): void => {
      if (timer) clearTimeout(timer);
      res.off(event, done);
      res.off("close", done);
      resolve();
    };
    res.on(event, done);
    res.on("close", done);
  });
}

/** Sends a whole answer. */
export async function send(exchange: Exchange, status: number, headers: Headers, body: Buffer): Promise<void> {
  const sender = new Sender(exchange, body.length, "length");
  sender.head(status, headers);
  await sender.write(body);
  await sender.end();
}

export function sendJson(exchange: Exchange, status: number, value: unknown): Promise<void> {
  return send(exchange, status, JSON_TYPE, Buffer.from(JSON.stringify(value)));
}

/** Answers a request that does not become a run, in FastAPI's format. */
export function turnAway(bench: Bench, exchange: Exchange, status: number, detail: unknown): Promise<void> {
  bench.refuse();
  return sendJson(exchange, status, { detail });
}

/** Answers a run that a fault makes fail at its end. */
export function sendFailure(exchange: Exchange, { status, body }: Extract<Fault, { kind: "status" }>): void {
  sendPage(exchange, status, JSON_TYPE, body ?? JSON.stringify({ detail: "the GPU gave up" }));
}

/** Sends a page for a fault or the tunnel, unaffected by faults. */
export function sendPage({ res }: Exchange, status: number, headers: Headers, page: string): void {
  res.writeHead(status, {
    "content-type": "text/html; charset=utf-8",
    "content-length": Buffer.byteLength(page),
    ...headers,
  });
  res.end(page);
}
