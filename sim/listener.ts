/**
 * A card's listening socket, which keeps its port and can be closed and opened again. When it closes, idle connections
 * are closed, and connections with an answer in progress after that answer.
 */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { sleep } from "./clock.ts";

/** Longer than any proxy keeps an idle connection, so that the card never closes first. */
const KEEP_ALIVE_MS = 75_000;
const HEAD_TIMEOUT_MS = 60_000;
const UPLOAD_TIMEOUT_MS = 600_000;
const HEAD_BYTES_MAX = 65_536;
const REOPEN_TRIES_MAX = 40;
const REOPEN_PAUSE_MS = 50;
const BACKLOG = 1_024;

export class Listener {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  constructor(handle: (req: IncomingMessage, res: ServerResponse) => void) {
    const options = {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: HEAD_TIMEOUT_MS,
      requestTimeout: UPLOAD_TIMEOUT_MS,
      maxHeaderSize: HEAD_BYTES_MAX,
    };
    this.#server = createServer(options, (req, res) => {
      if (!this.#server.listening) {
        req.socket.resetAndDestroy();
        return;
      }
      res.once("finish", () => {
        if (!this.#server.listening) req.socket.destroySoon();
      });
      handle(req, res);
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  get port(): number {
    return this.#port;
  }

  /** Listens; reopens on the port that it got the first time. */
  async listen(): Promise<void> {
    for (let tried = 1; !this.#server.listening; tried++) {
      try {
        await this.#listenOnce();
      } catch (error) {
        if (tried >= REOPEN_TRIES_MAX) throw error;
        await sleep(REOPEN_PAUSE_MS);
      }
    }
  }

  refuse(): void {
    if (!this.#server.listening) return;
    this.#server.close();
  }

  /** Resets every connection, as the kernel does for a process that died. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.refuse();
    for (const socket of this.#sockets) socket.destroy();
  }

  #listenOnce(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ port: this.#port, host: "127.0.0.1", backlog: BACKLOG }, () => {
        this.#server.off("error", reject);
        this.#port = portOf(this.#server);
        resolve();
      });
    });
  }
}

/** The port that a server listens on. */
export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server does not listen on a port");
  return address.port;
}
