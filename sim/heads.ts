/** The latest request heads that a card received, so that tests can assert what never arrives. */
import type { IncomingMessage } from "node:http";
import { nowMs } from "./clock.ts";

export const HEADS_KEPT_MAX = 200;

export interface Head {
  readonly at: number;
  readonly method: string;
  /** Path and query as in the request line. */
  readonly path: string;
  /** In the order and spelling received, duplicates included. */
  readonly headers: readonly (readonly [string, string])[];
}

export class Heads {
  #kept: Head[] = [];

  record(req: IncomingMessage): void {
    const headers: [string, string][] = [];
    for (let i = 0; i + 1 < req.rawHeaders.length; i += 2) headers.push([req.rawHeaders[i]!, req.rawHeaders[i + 1]!]);
    this.#kept.push({ at: nowMs(), method: req.method ?? "", path: req.url ?? "", headers });
    if (this.#kept.length > HEADS_KEPT_MAX) this.#kept.shift();
  }

  list(): readonly Head[] {
    return [...this.#kept];
  }

  reset(): void {
    this.#kept = [];
  }
}
