/**
 * One keep-alive connection of one user, on a bare socket: the generator shares its cores with what it measures, and
 * Node's own HTTP client costs several times as much per request. It reads what HTTP/1.1 servers of this benchmark
 * send: a status line, headers, and a body by length, in chunks, or to the end of the connection.
 *
 * A connection is idle, or one request is on it. It connects at the first request and again after the server closed it.
 */
import { connect, type Socket } from "node:net";

/** Longest head that is read, bytes; more is a broken answer. */
const HEAD_BYTES_MAX = 65_536;
const HEAD_END = Buffer.from("\r\n\r\n");
const LAST_CHUNK = Buffer.from("0\r\n\r\n");

export interface Answer {
  /** 0: the connection failed, or the answer was no HTTP. */
  status: number;
  /** What `Retry-After` says, ms; null without it. */
  retryAfterMs: number | null;
  serverTiming: string;
}

const FAILED: Answer = { status: 0, retryAfterMs: null, serverTiming: "" };

interface Head extends Answer {
  /** Bytes of the body; null: to the end of its chunks or of the connection. */
  length: number | null;
  chunked: boolean;
  closes: boolean;
}

export class Wire {
  readonly #port: number;
  readonly #localAddress: string;
  #socket: Socket | null = null;
  #settle: ((answer: Answer) => void) | null = null;
  /** What came before the head was whole. */
  #before: Buffer = Buffer.alloc(0);
  #head: Head | null = null;
  #seen = 0;
  /** The last bytes seen, to find the last chunk by. */
  #tail: Buffer = Buffer.alloc(0);

  /** To a port of 127.0.0.1, from an address of this user's own. */
  constructor(port: number, localAddress: string) {
    this.#port = port;
    this.#localAddress = localAddress;
  }

  /** Sends a whole request; resolves when its answer has been read to the end, or came to nothing. Never rejects. */
  send(request: Buffer): Promise<Answer> {
    if (this.#settle !== null) throw new Error("a request is on this connection already");
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#before = Buffer.alloc(0);
      this.#head = null;
      this.#socket ??= this.#open();
      this.#socket.write(request);
    });
  }

  /** Goes at once, as a caller who is killed: a reset, which the other side sees without having to write. */
  hangUp(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.resetAndDestroy();
    this.#end(FAILED);
  }

  #open(): Socket {
    const socket = connect({ port: this.#port, host: "127.0.0.1", localAddress: this.#localAddress, noDelay: true });
    socket.on("data", (part) => {
      if (socket === this.#socket) this.#read(part);
    });
    socket.on("error", () => {}); // Told by "close", which always follows.
    socket.on("close", () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      const head = this.#head;
      const isWhole = head !== null && head.length === null && !head.chunked;
      this.#end(isWhole ? head : FAILED);
    });
    return socket;
  }

  #read(part: Buffer): void {
    if (this.#settle === null) return;
    let body = part;
    if (this.#head === null) {
      const all = this.#before.length === 0 ? part : Buffer.concat([this.#before, part]);
      const end = all.indexOf(HEAD_END);
      if (end < 0) {
        this.#before = all;
        if (all.length > HEAD_BYTES_MAX) this.hangUp();
        return;
      }
      this.#head = parseHead(all.toString("latin1", 0, end));
      this.#seen = 0;
      this.#tail = Buffer.alloc(0);
      body = all.subarray(end + HEAD_END.length);
    }
    this.#take(this.#head, body);
  }

  #take(head: Head, body: Buffer): void {
    this.#seen += body.length;
    if (head.chunked)
      this.#tail = Buffer.concat([this.#tail, body.subarray(-LAST_CHUNK.length)]).subarray(-LAST_CHUNK.length);
    // A picture's base64 holds no line ends, so these bytes stand at the end of the chunks alone.
    const isWhole = head.chunked ? this.#tail.equals(LAST_CHUNK) : head.length !== null && this.#seen >= head.length;
    if (!isWhole) return;
    if (head.closes) {
      this.#socket?.destroy();
      this.#socket = null;
    }
    this.#end(head);
  }

  #end(answer: Answer): void {
    const settle = this.#settle;
    this.#settle = null;
    settle?.(answer);
  }
}

function parseHead(text: string): Head {
  const field = (name: RegExp): string => name.exec(text)?.[1]?.trim() ?? "";
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? 0);
  const length = field(/\r\ncontent-length:([^\r]*)/i);
  const after = field(/\r\nretry-after:([^\r]*)/i);
  return {
    status,
    length: length === "" ? null : Number(length),
    chunked: /\r\ntransfer-encoding:[^\r]*chunked/i.test(text),
    closes: /\r\nconnection:[^\r]*close/i.test(text),
    retryAfterMs: after === "" ? null : Number(after) * 1000,
    serverTiming: field(/\r\nserver-timing:([^\r]*)/i),
  };
}

/** A POST as it goes over the wire, ready to be sent. */
export function post(path: string, headers: Readonly<Record<string, string>>, body: string): Buffer {
  const fields = Object.entries({ host: "127.0.0.1", "content-type": "application/json", ...headers });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`POST ${path} HTTP/1.1\r\n${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}
