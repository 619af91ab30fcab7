/**
 * Helpers of the contract tests: one Portico per file, tenants' keys, and calls over raw sockets, so that the bytes in
 * a test are the bytes on the wire.
 */
import { randomInt } from "node:crypto";
import { afterAll, beforeAll, expect } from "vitest";
import type { Park } from "../../sim/park.ts";
import { type KeyOptions, type Portico, type PorticoOptions, startPortico } from "../support/portico.ts";
import { type Answer, raw } from "../support/raw.ts";

/** Small, so that drawing takes almost no time. */
const PICTURE = { width: 32, height: 32, steps: 1 };
const SEEDS = 2 ** 31;
/** High enough that only tests of limits meet one. */
const LIMITS = { requests_per_minute: 1_000_000, burst: 1_000_000 };
const JSON_TYPE = { "content-type": "application/json" };

export interface Sent {
  method?: string;
  key?: string | null;
  headers?: Record<string, string | string[]>;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as is. */
  body?: string | Buffer;
}

/** Members of the canonical error. */
export interface WireError {
  code: string;
  type: string;
  message: string;
  param: string | null;
  reason: string | null;
  retryable: boolean;
  started: string;
  request_id: string;
  timestamp: string;
}

export class Doorway {
  #portico: Portico | undefined;
  #key: string | undefined;

  async start(options: PorticoOptions): Promise<void> {
    this.#portico = await startPortico(options);
    this.#key = await this.key();
  }

  get portico(): Portico {
    if (this.#portico === undefined) throw new Error("not started");
    return this.#portico;
  }

  get park(): Park {
    if (this.portico.park === null) throw new Error("the test brought its own cards");
    return this.portico.park;
  }

  /** The key of calls that name none. */
  get ownKey(): string {
    if (this.#key === undefined) throw new Error("not started");
    return this.#key;
  }

  /** Creates a key, of a new tenant unless one is given. */
  key(options: KeyOptions = {}): Promise<string> {
    return this.portico.key({ ...options, limits: { ...LIMITS, ...options.limits } });
  }

  tenant(limits: Record<string, unknown> = {}): Promise<string> {
    return this.portico.tenant({ ...LIMITS, ...limits });
  }

  ask(target: string, { method, key = this.ownKey, headers = {}, json, body }: Sent = {}): Promise<Answer> {
    const payload = json === undefined ? body : JSON.stringify(json);
    return raw(this.portico.url, {
      method: method ?? (payload === undefined ? "GET" : "POST"),
      target,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(json === undefined ? {} : JSON_TYPE),
        ...headers,
      },
      ...(payload === undefined ? {} : { body: payload }),
    });
  }

  /** Paints a picture. Its seed is random, so that it is a new one, unless `json` sets the seed. */
  paint(json: object = {}, sent: Sent = {}): Promise<Answer> {
    return this.ask("/sdapi/v1/txt2img", { json: picture(json), ...sent });
  }

  /** Makes a sound. Its text decides whether it is a new one. */
  speak(json: object, sent: Sent = {}): Promise<Answer> {
    return this.ask("/AIVoice/TTS/CosyVoice2/audio-generate", { json, ...sent });
  }

  /** Number of runs that the cards have started since they were opened or reset. */
  starts(): number {
    return this.park.counts().starts;
  }
}

/** Starts one Portico for all tests of a file. */
export function doorway(options: PorticoOptions = {}): Doorway {
  const door = new Doorway();
  beforeAll(() => door.start(options));
  afterAll(async () => {
    const { park } = door.portico;
    await door.portico.stop();
    expect(park?.counts().over ?? 0, "runs beyond a card's slots").toBe(0);
  });
  return door;
}

export function picture(json: object = {}): Record<string, unknown> {
  return { prompt: "a lighthouse", ...PICTURE, seed: randomInt(SEEDS), ...json };
}

export function errorOf({ text }: Answer): WireError {
  const { error }: { error: WireError } = JSON.parse(text);
  return error;
}

/** A refusal as `status code type reason`. */
export function refusalOf(answer: Answer): string {
  const { code, type, reason } = errorOf(answer);
  return [answer.status, code, type, reason].join(" ");
}

/** URLs of results in the answer's `Link` header. */
export function linksOf(answer: Answer): string[] {
  return [...(answer.header("link") ?? "").matchAll(/<([^>]*)>\s*;\s*rel="?enclosure"?/g)].map(([, url]) => url ?? "");
}

/** The path and query of a URL. */
export function targetOf(url: string): string {
  const { pathname, search } = new URL(url);
  return pathname + search;
}

export function expectOk(answer: Answer): Answer {
  expect(answer.status, answer.text.slice(0, 500)).toBe(200);
  expect(answer.whole).toBe(true);
  return answer;
}
