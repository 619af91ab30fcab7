/**
 * An origin that the test itself is: it keeps every request byte for byte and answers what the test says. For what the
 * simulated cards cannot show: bodies, hostile headers, odd answers.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Doorway } from "./doorway.ts";

/** The smallest PNG there is: what an image service must answer to be believed. */
export const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export interface Seen {
  method: string;
  /** Path and query as they stood in the request line. */
  target: string;
  headers: [name: string, value: string][];
  body: Buffer;
}

export type Answering = (res: ServerResponse, seen: Seen) => void;

export class Origin {
  readonly url: string;
  readonly seen: Seen[] = [];
  readonly #close: () => void;
  answering: Answering = answerImage;
  /** Bytes of bodies that have come so far. */
  received = 0;

  static async open(): Promise<Origin> {
    const server = createServer((req, res) => {
      origin.#take(req, res).catch((error: unknown) => {
        // A request that is broken off in the midst of its body is none.
        if (!req.destroyed) throw error;
      });
    });
    await new Promise<void>((resolve) => {
      server.listen({ port: 0, host: "127.0.0.1" }, resolve);
    });
    const { port } = server.address() as AddressInfo;
    const origin = new Origin(`http://127.0.0.1:${port}`, () => {
      server.close();
      server.closeAllConnections();
    });
    return origin;
  }

  private constructor(url: string, close: () => void) {
    this.url = url;
    this.#close = close;
  }

  /** The only request since the last call of this. */
  taken(): Seen {
    const [seen, ...more] = this.seen.splice(0);
    if (seen === undefined || more.length > 0) throw new Error(`${seen === undefined ? 0 : 1 + more.length} requests`);
    return seen;
  }

  close(): void {
    this.#close();
  }

  async #take(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of req as AsyncIterable<Buffer>) {
      this.received += piece.length;
      pieces.push(piece);
    }
    const headers: [string, string][] = [];
    for (let i = 0; i < req.rawHeaders.length; i += 2)
      headers.push([req.rawHeaders[i] ?? "", req.rawHeaders[i + 1] ?? ""]);
    const seen = { method: req.method ?? "", target: req.url ?? "", headers, body: Buffer.concat(pieces) };
    this.seen.push(seen);
    this.answering(res, seen);
  }
}

export const answerImage: Answering = (res) => {
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ images: [PNG], parameters: {}, info: "{}" }));
};

/** Answers with what it got. */
export const answerEcho: Answering = (res, { method, target, headers, body }) => {
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ method, target, headers, body: body.toString("base64") }));
};

/** Answers with these very bytes and ends the connection. */
export function answerBytes(...bytes: (string | Buffer)[]): Answering {
  return (res) => res.socket?.end(Buffer.concat(bytes.map((each) => Buffer.from(each as string))));
}

export function valuesOf({ headers }: { headers: readonly (readonly [string, string])[] }, name: string): string[] {
  return headers.filter(([other]) => other.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
}

/** A service of its own whose only card is the origin. */
export async function listOrigin(door: Doorway, origin: Origin, id: string, service: object, card = {}): Promise<void> {
  await door.portico.admin("PUT", `/services/${id}`, service);
  await door.portico.admin("PUT", `/services/${id}/cards/${id}-card`, { origin: origin.url, slots: 8, ...card });
}

/** As the service `any`, whose calls may bring anything: one that runs, one that reads. */
export function listAny(door: Doorway, origin: Origin): Promise<void> {
  const paths = [
    { method: "POST", path: "run", as: "run" },
    { method: "GET", path: "read", as: "read" },
  ];
  return listOrigin(door, origin, "any", { kind: "http", route: "/any/", paths });
}
