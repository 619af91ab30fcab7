/** A raw connection that stays open after its first answer, and everything that was received on it, byte for byte. */
import { connect, type Socket } from "node:net";
import { sleep } from "../line/caller.ts";

/** After this long without a byte nothing more is expected. */
const QUIET_MS = 250;
const ANSWER_MS_MAX = 5_000;

export class Connection {
  readonly #socket: Socket;
  #pieces: Buffer[] = [];
  #at = performance.now();
  closed = false;

  static async open(url: string): Promise<Connection> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Connection(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => {
      this.#pieces.push(chunk);
      this.#at = performance.now();
    });
    socket.on("error", () => (this.closed = true));
    socket.on("close", () => (this.closed = true));
    socket.on("end", () => (this.closed = true));
  }

  /** Everything received, unchanged. */
  get text(): string {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]?.toString("latin1") ?? "";
  }

  /** Heads of the answers, found by following their framing; garbage where a head must begin counts as one. */
  get heads(): string[] {
    const { text } = this;
    const heads: string[] = [];
    for (let at = 0; at < text.length;) {
      const end = text.indexOf("\r\n\r\n", at);
      if (end < 0) break;
      const head = text.slice(at, end);
      heads.push(head);
      const next = endOfBody(text, head, end + 4);
      if (next === null) break;
      at = next;
    }
    return heads;
  }

  get statuses(): number[] {
    return this.heads.map((head) => Number(/^HTTP\/1\.\d (\d{3})/.exec(head)?.[1] ?? 0));
  }

  /** Our request ids in the answers on this connection. */
  get ids(): string[] {
    return [...this.text.matchAll(/^x-request-id: *(\S+)/gim)].map(([, id = ""]) => id);
  }

  send(bytes: string | Buffer): void {
    this.#at = performance.now();
    if (!this.closed) this.#socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Waits until it is closed, or quiet after an answer, or `limitMs` have passed. */
  async settled(limitMs = ANSWER_MS_MAX): Promise<void> {
    const heads = this.heads.length;
    for (const until = performance.now() + limitMs; performance.now() < until && !this.closed; await sleep(20)) {
      if (performance.now() - this.#at > QUIET_MS && this.heads.length > heads) return;
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** Where the next answer begins; null while the body is incomplete. */
function endOfBody(text: string, head: string, from: number): number | null {
  if (/^HTTP\/1\.\d (1\d\d|204|304)/.test(head)) return from;
  if (!/^transfer-encoding: *chunked/im.test(head)) {
    const to = from + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? Infinity);
    return to <= text.length ? to : null;
  }
  for (let at = from; ;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return null;
    const size = Number.parseInt(text.slice(at, line), 16);
    at = line + 2 + size + 2;
    if (Number.isNaN(size) || at > text.length) return null;
    if (size === 0) return at;
  }
}
