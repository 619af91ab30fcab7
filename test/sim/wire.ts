/** Sends a request over a bare socket and collects everything until the connection ends. */
import { connect } from "node:net";
import type { Socket } from "node:net";

export interface Reply {
  readonly status: number;
  readonly head: string;
  readonly body: Buffer;
  /** Whether the body ended as its framing says. */
  readonly whole: boolean;
  /** State of the connection when ask() stopped listening. */
  readonly end: "closed" | "reset" | "open" | "refused";
  /** Milliseconds from the request to each arrival of bytes. */
  readonly arrivals: readonly number[];
}

export interface Ask {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: Buffer;
  /** Stop listening after this long. */
  readonly forMs?: number;
}

const LONGEST_MS = 8_000;

/** Opens a connection, writes one request and leaves the rest to the caller. */
export function write(origin: string, { method = "POST", path, headers = {}, json, body }: Ask): Socket {
  const url = new URL(origin);
  const payload = body ?? (json === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(json)));
  const all = {
    host: url.host,
    connection: "close",
    "content-length": String(payload.length),
    ...(json === undefined ? {} : { "content-type": "application/json" }),
    ...headers,
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const socket = connect(Number(url.port), url.hostname);
  socket.write(`${method} ${path} HTTP/1.1\r\n${head.join("")}\r\n`);
  if (payload.length > 0) socket.write(payload);
  return socket;
}

export function ask(origin: string, request: Ask): Promise<Reply> {
  const started = performance.now();
  const socket = write(origin, request);
  const parts: Buffer[] = [];
  const arrivals: number[] = [];
  return new Promise((resolve) => {
    const stop = (end: Reply["end"]): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ ...replyOf(Buffer.concat(parts), end), end, arrivals });
    };
    const timer = setTimeout(() => stop("open"), request.forMs ?? LONGEST_MS);
    socket.on("data", (part) => {
      parts.push(part);
      arrivals.push(performance.now() - started);
    });
    socket.on("end", () => stop("closed"));
    socket.on("error", (error: NodeJS.ErrnoException) => stop(error.code === "ECONNREFUSED" ? "refused" : "reset"));
  });
}

function replyOf(bytes: Buffer, end: Reply["end"]): Omit<Reply, "end" | "arrivals"> {
  const at = bytes.indexOf("\r\n\r\n");
  if (at < 0) return { status: 0, head: "", body: Buffer.alloc(0), whole: false };
  const head = bytes.subarray(0, at).toString("latin1");
  const status = Number(head.slice(9, 12));
  const raw = bytes.subarray(at + 4);
  if (/^transfer-encoding: chunked$/im.test(head)) return { status, head, ...unchunked(raw) };
  const length = /^content-length: (\d+)$/im.exec(head)?.[1];
  const whole = length === undefined ? end === "closed" : raw.length === Number(length);
  return { status, head, body: raw, whole };
}

function unchunked(raw: Buffer): { readonly body: Buffer; readonly whole: boolean } {
  const parts: Buffer[] = [];
  for (let at = 0; ;) {
    const line = raw.indexOf("\r\n", at);
    const size = line < 0 ? Number.NaN : Number.parseInt(raw.toString("latin1", at, line), 16);
    if (size === 0) return { body: Buffer.concat(parts), whole: true };
    if (Number.isNaN(size)) return { body: Buffer.concat(parts), whole: false };
    parts.push(raw.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}

export function header(reply: Reply, name: string): string | null {
  return new RegExp(`^${name}: (.*)$`, "im").exec(reply.head)?.[1] ?? null;
}

/** Waits until the condition holds; the test's timeout limits it. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause(2);
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Returns the value, or throws if there is none. */
export function must<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("expected a value");
  return value;
}
