/**
 * An origin inside the test. It keeps every request byte for byte and answers as the test says. It covers what the
 * simulated cards cannot: bodies, hostile headers, odd answers.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Doorway } from "./doorway.ts";

/** The smallest PNG, which passes as an image service's answer. */
export const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export interface Seen {
  method: string;
  /** Path and query as in the request line. */
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
  /** Bytes of bodies received so far. */
  received = 0;

  static async open(): Promise<Origin> {
    const server = createServer((req, res) => {
      origin.#take(req, res).catch((error: unknown) => {
        // A request that breaks off within its body is ignored.
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

  /** Returns the only request since the last call, and throws unless there is exactly one. */
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

/** Answers with the request itself. */
export const answerEcho: Answering = (res, { method, target, headers, body }) => {
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify({ method, target, headers, body: body.toString("base64") }));
};

/** Answers with exactly these bytes and ends the connection. */
export function answerBytes(...bytes: (string | Buffer)[]): Answering {
  return (res) => res.socket?.end(Buffer.concat(bytes.map((each) => Buffer.from(each as string))));
}

export function valuesOf({ headers }: { headers: readonly (readonly [string, string])[] }, name: string): string[] {
  return headers.filter(([other]) => other.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
}

/** Creates a service whose only card is the origin. */
export async function listOrigin(door: Doorway, origin: Origin, id: string, service: object, card = {}): Promise<void> {
  await door.portico.admin("PUT", `/services/${id}`, service);
  await door.portico.admin("PUT", `/services/${id}/cards/${id}-card`, { origin: origin.url, slots: 8, ...card });
}

/** Creates the service `any`, with one path that runs and one that reads. */
export function listAny(door: Doorway, origin: Origin): Promise<void> {
  const paths = [
    { method: "POST", path: "run", as: "run" },
    { method: "GET", path: "read", as: "read" },
  ];
  return listOrigin(door, origin, "any", { kind: "http", route: "/any/", paths });
}
