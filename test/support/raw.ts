/**
 * HTTP/1.1 written by hand over a socket, for what a client library would normalize or hide: raw paths, several
 * credentials, a hang-up by TCP reset, an answer that was cut. One call per connection.
 */
import { connect, type Socket } from "node:net";

const CONNECT_MS_MAX = 5_000;
const ANSWER_MS_MAX = 30_000;

export interface Head {
  status: number;
  /** In order, names in lower case; a name may occur twice. */
  headers: [name: string, value: string][];
  header(name: string): string | null;
}

export interface Answer extends Head {
  body: Buffer;
  text: string;
  /** Whether the body ended as its framing says; false if the connection was cut. */
  whole: boolean;
  /** When each piece of the body arrived, in ms after the request was sent. */
  arrivals: { ms: number; bytes: number }[];
}

export interface Request {
  method?: string;
  /** Sent as it is, never normalized. */
  target: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
}

/** The bytes of a request; adds Host, Connection and Content-Length unless given. */
export function bytesOf(host: string, { method = "GET", target, headers = {}, body }: Request): Buffer {
  const lines = [`${method} ${target} HTTP/1.1`];
  const given = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  if (!given.has("host")) lines.push(`Host: ${host}`);
  if (!given.has("connection")) lines.push("Connection: close");
  const payload = Buffer.from(body ?? "");
  const framed = given.has("content-length") || given.has("transfer-encoding");
  if (!framed && (body !== undefined || method !== "GET")) lines.push(`Content-Length: ${payload.length}`);
  for (const [name, values] of Object.entries(headers)) {
    for (const value of [values].flat()) lines.push(`${name}: ${value}`);
  }
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), payload]);
}

/** Sends one request and reads its whole answer. */
export async function raw(url: string, request: Request): Promise<Answer> {
  const call = await RawCall.open(url);
  call.send(bytesOf(call.host, request));
  return call.answer();
}

export class RawCall {
  readonly host: string;
  readonly #socket: Socket;
  readonly #waiting = new Set<() => void>();
  /** Doubles when full: large answers come in many pieces. */
  #store = Buffer.alloc(64 * 1024);
  #length = 0;
  #bodiless = false;
  #sentAt = 0;
  #arrivals: { ms: number; at: number }[] = [];
  #closed = false;

  static async open(url: string): Promise<RawCall> {
    const { hostname, port, host } = new URL(url);
    const socket = connect({ host: hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(port) });
    const limit = setTimeout(() => socket.destroy(new Error("no connection in time")), CONNECT_MS_MAX);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    clearTimeout(limit);
    return new RawCall(socket, host);
  }

  private constructor(socket: Socket, host: string) {
    this.host = host;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      this.#keep(chunk);
      this.#arrivals.push({ ms: performance.now() - this.#sentAt, at: this.#length });
      this.#wake();
    });
    // A reset is treated like any other end; `whole` tells them apart.
    socket.on("error", () => this.#close());
    socket.on("close", () => this.#close());
    socket.on("end", () => this.#close());
  }

  send(bytes: Buffer): void {
    this.#sentAt = performance.now();
    this.#bodiless = bytes.subarray(0, 5).toString() === "HEAD ";
    this.#socket.write(bytes);
  }

  /** Hangs up with a TCP reset, as a client that dies does. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** Closes the connection gracefully. */
  end(): void {
    this.#socket.end();
  }

  /** Stops reading until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Status and headers, as soon as they have arrived. */
  async head(): Promise<Head> {
    return (await this.#untilHead()).head;
  }

  /** The answer up to the end of its body; closes the connection. */
  async answer(): Promise<Answer> {
    const { head, from } = await this.#untilHead();
    const read = this.#bodiless ? readNothing : readerOf(head);
    let done = read(this.#buffer.subarray(from), this.#closed);
    while (done === null && !this.#closed) {
      await this.#more();
      done = read(this.#buffer.subarray(from), this.#closed);
    }
    this.#socket.destroy();
    const { body, whole } = done ?? { body: this.#buffer.subarray(from), whole: false };
    return { ...head, body, text: body.toString(), whole, arrivals: this.#arrivalsFrom(from) };
  }

  get #buffer(): Buffer {
    return this.#store.subarray(0, this.#length);
  }

  #keep(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (length > this.#store.length) {
      const larger = Buffer.alloc(Math.max(length, this.#store.length * 2));
      this.#buffer.copy(larger);
      this.#store = larger;
    }
    chunk.copy(this.#store, this.#length);
    this.#length = length;
  }

  async #untilHead(): Promise<{ head: Head; from: number }> {
    for (let from = 0; ;) {
      const end = this.#buffer.indexOf("\r\n\r\n", from);
      if (end >= 0) {
        const head = parseHead(this.#buffer.toString("latin1", from, end));
        from = end + 4;
        // Interim responses (RFC 9110 15.2) are skipped.
        if (head.status >= 200) return { head, from };
        continue;
      }
      if (this.#closed) throw new Error(`closed without an answer: ${JSON.stringify(this.#buffer.toString())}`);
      await this.#more();
    }
  }

  #arrivalsFrom(from: number): { ms: number; bytes: number }[] {
    let before = from;
    return this.#arrivals
      .filter(({ at }) => at > from)
      .map(({ ms, at }) => {
        const bytes = at - before;
        before = at;
        return { ms, bytes };
      });
  }

  async #more(): Promise<void> {
    let limit: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      limit = setTimeout(() => reject(new Error("no answer in time")), ANSWER_MS_MAX);
      this.#waiting.add(resolve);
    });
    clearTimeout(limit);
  }

  #close(): void {
    this.#closed = true;
    this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}

function parseHead(text: string): Head {
  const [statusLine = "", ...lines] = text.split("\r\n");
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  const header = (name: string) => {
    const values = headers.filter(([other]) => other === name.toLowerCase()).map(([, value]) => value);
    return values.length === 0 ? null : values.join(", ");
  };
  return { status: Number(statusLine.split(" ")[1]), headers, header };
}

type Body = { body: Buffer; whole: boolean };
/** Takes the bytes received so far. Returns the body once it is complete, else null. */
type Reader = (bytes: Buffer, closed: boolean) => Body | null;

function readerOf(head: Head): Reader {
  if (head.status === 204 || head.status === 304) return readNothing;
  if (/chunked/i.test(head.header("transfer-encoding") ?? "")) return readChunked;
  const length = head.header("content-length");
  if (length === null) return (bytes, closed) => (closed ? { body: bytes, whole: true } : null);
  return (bytes) => (bytes.length >= Number(length) ? { body: bytes.subarray(0, Number(length)), whole: true } : null);
}

function readNothing(): Body {
  return { body: Buffer.alloc(0), whole: true };
}

function readChunked(bytes: Buffer, closed: boolean): Body | null {
  const pieces: Buffer[] = [];
  const partial = () => (closed ? { body: Buffer.concat(pieces), whole: false } : null);
  for (let at = 0; ;) {
    const line = bytes.indexOf("\r\n", at);
    if (line < 0) return partial();
    const size = Number.parseInt(bytes.toString("latin1", at, line), 16);
    const end = line + 2 + size;
    if (size === 0) return bytes.length >= end + 2 ? { body: Buffer.concat(pieces), whole: true } : partial();
    if (bytes.length < end + 2) {
      pieces.push(bytes.subarray(line + 2, Math.min(end, bytes.length)));
      return partial();
    }
    pieces.push(bytes.subarray(line + 2, end));
    at = end + 2;
  }
}
