/**
 * One keep-alive connection of one user, on a bare socket: the generator shares its cores with what it measures, and
 * Node's own HTTP client costs several times as much per request.
 *
 * A connection is idle, or one request is on it. It connects at the first request and again after the server closed it.
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

  /** To a port of 127.0.0.1, from an address of this user's own. */
  constructor(port: number, localAddress: string) {
    this.#port = port;
    this.#localAddress = localAddress;
  }

  /** Sends a whole request; resolves when its answer has been read to the end, or came to nothing. Never rejects. */
  send(request: Buffer): Promise<Answer> {
    if (this.#underWay !== null) throw new Error("a request is on this connection already");
    return new Promise((settle) => {
      this.#underWay = { reader: new AnswerReader(), settle };
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

/** A POST as it goes over the wire, ready to be sent. */
export function post(path: string, headers: Headers, body: string): Buffer {
  const length = { "content-length": String(Buffer.byteLength(body)) };
  return Buffer.concat([
    plain("POST", path, { "content-type": "application/json", ...headers, ...length }),
    Buffer.from(body),
  ]);
}

/** A request without a body. */
export function plain(method: string, path: string, headers: Headers): Buffer {
  const fields = Object.entries({ host: "127.0.0.1", ...headers });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${head}\r\n`);
}
