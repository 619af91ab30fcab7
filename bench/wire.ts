/**
 * One user's keep-alive connection, on a bare socket: the load generator shares its cores with what it measures, and
 * Node's HTTP client costs several times as much per request.
 *
 * A connection has at most one request in flight. It connects at the first request, and again after the server closed
 * it.
 */
import { connect, type Socket } from "node:net";
import { AnswerReader, FAILED, type Answer } from "./answer.ts";

interface UnderWay {
  reader: AnswerReader;
  settle: (answer: Answer) => void;
}

export class Wire {
  readonly #port: number;
  readonly #localAddress: string;
  #socket: Socket | null = null;
  #underWay: UnderWay | null = null;

  /** Connects to a port of 127.0.0.1 from the user's own local address. */
  constructor(port: number, localAddress: string) {
    this.#port = port;
    this.#localAddress = localAddress;
  }

  /** Sends a request. Resolves when its answer was read to the end or has failed. Never rejects. */
  send(request: Buffer): Promise<Answer> {
    if (this.#underWay !== null) throw new Error("a request is on this connection already");
    return new Promise((settle) => {
      this.#underWay = { reader: new AnswerReader(), settle };
      this.#socket ??= this.#open();
      this.#socket.write(request);
    });
  }

  /** Disconnects with a reset, like a caller that is killed: the other side notices it without having to write. */
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
    socket.on("error", () => {}); // Handled in "close", which always follows.
    socket.on("close", () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.#end(this.#underWay?.reader.end() ?? FAILED);
    });
    return socket;
  }

  #read(part: Buffer): void {
    const progress = this.#underWay?.reader.read(part) ?? { kind: "unfinished" };
    if (progress.kind === "broken") this.hangUp();
    if (progress.kind !== "whole") return;
    if (progress.closes) {
      this.#socket?.destroy();
      this.#socket = null;
    }
    this.#end(progress.answer);
  }

  #end(answer: Answer): void {
    const underWay = this.#underWay;
    this.#underWay = null;
    underWay?.settle(answer);
  }
}

type Headers = Readonly<Record<string, string>>;

/** A POST in wire format. */
export function post(path: string, headers: Headers, body: string): Buffer {
  const length = { "content-length": String(Buffer.byteLength(body)) };
  return Buffer.concat([
    plain("POST", path, { "content-type": "application/json", ...headers, ...length }),
    Buffer.from(body),
  ]);
}

/** A request without a body, in wire format. */
export function plain(method: string, path: string, headers: Headers): Buffer {
  const fields = Object.entries({ host: "127.0.0.1", ...headers });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${head}\r\n`);
}
