/** One request at a card with its body in memory, and the interface between a card and its routes. */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Fault } from "./faults.ts";
import type { Sensors } from "./gpu.ts";
import type { Sketch } from "./picture.ts";
import type { Load, Service } from "./timing.ts";
import type { Work } from "./work.ts";
import type { Workshop } from "./workshop.ts";

const BODY_BYTES_MAX = 128 * 1024 * 1024;

export interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** The path as sent, without its query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly fault: Fault | null;
}

export interface Upload {
  readonly body: Buffer;
  /** 0 to 1, a hash of the body: the source of jitter. */
  readonly dice: number;
}

export interface Plan {
  readonly ms: number;
  readonly seed?: number;
  readonly prompt?: string;
  readonly task?: string | null;
  /** What is being drawn, for progress previews. */
  readonly sketch?: Sketch;
}

/** What a route can use of its card. */
export interface Bench {
  readonly card: string;
  readonly service: Service;
  readonly workshop: Workshop;
  readonly works: readonly Work[];
  sensors(): Sensors;
  /** Whether a task with this id has ended here recently. */
  completed(task: string): boolean;
  /** Starts a run for this request; its slot is busy from now on. */
  begin(exchange: Exchange, plan: Plan): Work;
  /** Counts a request that did not become a run. */
  refuse(): void;
}

export type Handler = (bench: Bench, exchange: Exchange, upload: Upload) => Promise<void> | void;

export interface Route {
  readonly methods: readonly string[];
  /** The end of the path; anything before it is the origin's own prefix. */
  readonly tail: string;
  readonly as: "run" | "read";
  readonly handle: Handler;
}

/** Reads the whole body. Returns null if the caller left meanwhile, "large" if the body is over the limit. */
export async function readUpload(req: IncomingMessage): Promise<Upload | "large" | null> {
  if (Number(req.headers["content-length"] ?? 0) > BODY_BYTES_MAX) return "large";
  const sum = createHash("sha1");
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of req as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > BODY_BYTES_MAX) return "large";
      sum.update(part);
      parts.push(part);
    }
  } catch {
    return null; // Reading a body fails only if the caller left.
  }
  return { body: Buffer.concat(parts), dice: sum.digest().readUInt32BE(0) / 2 ** 32 };
}

/** The factors on one request's service time. */
export function loadOf({ fault }: Exchange, { dice }: Upload): Load {
  return { dice, slow: fault?.kind === "slow" ? fault.factor : 1 };
}
