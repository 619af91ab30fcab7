/**
 * The heartbeat of one card: tells the front door its load, at a steady pace and at once when
 * the number of runs changes. What fails is counted and shown, and never harms the card.
 */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { nowMs } from "./clock.ts";
import type { Sensors } from "./gpu.ts";

const EVERY_MS = 5_000;
/** Changes are told at most this often. */
const CHANGE_MS = 1_000;
const TIMEOUT_MS = 5_000;

export interface Pulse {
  /** `{card}` in it is replaced; without it the admin path is appended. */
  readonly url: string;
  readonly token: string;
  readonly every_ms?: number;
  readonly change_ms?: number;
}

export interface Beats {
  readonly on: boolean;
  readonly sent: number;
  readonly failed: number;
  readonly last_status: number | null;
  readonly last_error: string | null;
}

export class Heartbeat {
  readonly #card: string;
  readonly #read: () => Sensors & { readonly running: number };
  #pulse: Pulse | null = null;
  #timer: NodeJS.Timeout | null = null;
  #lastAt = -Infinity;
  #flying = false;
  #due = false;
  #sent = 0;
  #failed = 0;
  #lastStatus: number | null = null;
  #lastError: string | null = null;

  constructor(card: string, read: () => Sensors & { readonly running: number }) {
    this.#card = card;
    this.#read = read;
  }

  get beats(): Beats {
    return {
      on: this.#pulse !== null,
      sent: this.#sent,
      failed: this.#failed,
      last_status: this.#lastStatus,
      last_error: this.#lastError,
    };
  }

  /** Begins with a beat at once; null falls silent. */
  set(pulse: Pulse | null): void {
    this.#pulse = pulse;
    this.#due = false;
    this.#lastAt = -Infinity;
    this.#plan(0);
  }

  /** The number of runs has changed. */
  changed(): void {
    const { change_ms = CHANGE_MS } = this.#pulse ?? {};
    this.#plan(Math.max(0, this.#lastAt + change_ms - nowMs()));
  }

  reset(): void {
    this.#sent = this.#failed = 0;
    this.#lastStatus = this.#lastError = null;
  }

  #plan(ms: number): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = this.#pulse ? setTimeout(() => void this.#beat(), ms) : null;
  }

  /** One at a time: a beat that falls due meanwhile follows at once, with the newer figures. */
  async #beat(): Promise<void> {
    const pulse = this.#pulse;
    if (!pulse) return;
    if (this.#flying) {
      this.#due = true;
      return;
    }
    this.#flying = true;
    this.#due = false;
    this.#lastAt = nowMs();
    this.#plan(pulse.every_ms ?? EVERY_MS);
    try {
      this.#lastStatus = await post(
        urlOf(pulse.url, this.#card),
        pulse.token,
        JSON.stringify({ ...this.#read(), at: new Date(nowMs()).toISOString() }),
      );
      this.#sent += 1;
      if (this.#lastStatus >= 300) this.#failed += 1;
    } catch (error) {
      this.#failed += 1;
      this.#lastError = error instanceof Error ? error.message : String(error);
    }
    this.#flying = false;
    if (this.#due) this.changed();
  }
}

function urlOf(url: string, card: string): string {
  const name = encodeURIComponent(card);
  return url.includes("{card}")
    ? url.replaceAll("{card}", name)
    : `${url.replace(/\/$/, "")}/admin/v1/cards/${name}/heartbeat`;
}

function post(url: string, token: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = url.startsWith("https:") ? requestHttps : requestHttp;
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      authorization: `Bearer ${token}`,
    };
    const req = request(url, { method: "POST", headers, timeout: TIMEOUT_MS }, (res) => {
      res.resume();
      res.once("end", () => resolve(res.statusCode ?? 0));
      res.once("error", reject);
    });
    req.once("timeout", () => req.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    req.once("error", reject);
    req.end(body);
  });
}
