/**
 * The heartbeat of one card: reports its load to the front door, periodically and soon after the number of runs
 * changes. Failures are counted and shown, and do not affect the card.
 */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { nowMs } from "./clock.ts";
import type { Sensors } from "./gpu.ts";

const EVERY_MS = 5_000;
/** Changes are reported at most this often. */
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
  /** When the next heartbeat is due; a change can only make it earlier. */
  #dueAt = Infinity;
  #flying: AbortController | null = null;
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

  /** Starts with a heartbeat at once; null stops. A heartbeat in flight is aborted. */
  set(pulse: Pulse | null): void {
    this.#flying?.abort();
    this.#flying = null;
    this.#pulse = pulse;
    this.#lastAt = -Infinity;
    this.#dueAt = pulse ? nowMs() : Infinity;
    this.#plan();
  }

  /** Called when the number of runs has changed. */
  changed(): void {
    if (!this.#pulse) return;
    this.#dueAt = Math.min(this.#dueAt, this.#lastAt + (this.#pulse.change_ms ?? CHANGE_MS));
    this.#plan();
  }

  reset(): void {
    this.#sent = this.#failed = 0;
    this.#lastStatus = this.#lastError = null;
  }

  /** Schedules the next heartbeat. One is in flight at a time: the next one waits, and then sends newer figures. */
  #plan(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const pulse = this.#pulse;
    if (!pulse || this.#flying) return;
    const wait = Math.max(0, this.#dueAt - nowMs());
    this.#timer = setTimeout(() => void this.#beat(pulse), wait);
  }

  async #beat(pulse: Pulse): Promise<void> {
    const flying = new AbortController();
    this.#flying = flying;
    this.#lastAt = nowMs();
    this.#dueAt = this.#lastAt + (pulse.every_ms ?? EVERY_MS);
    const body = JSON.stringify({ ...this.#read(), at: new Date(nowMs()).toISOString() });
    const outcome = await post(urlOf(pulse.url, this.#card), pulse.token, body, flying.signal).then(
      (status) => ({ status }),
      (error: unknown) => ({ error: error instanceof Error ? error.message : String(error) }),
    );
    if (this.#flying !== flying) return;
    this.#flying = null;
    if ("status" in outcome) {
      this.#sent += 1;
      this.#lastStatus = outcome.status;
      if (outcome.status >= 300) this.#failed += 1;
    } else {
      this.#failed += 1;
      this.#lastError = outcome.error;
    }
    this.#plan();
  }
}

function urlOf(url: string, card: string): string {
  const name = encodeURIComponent(card);
  return url.includes("{card}")
    ? url.replaceAll("{card}", name)
    : `${url.replace(/\/$/, "")}/admin/v1/cards/${name}/heartbeat`;
}

function post(url: string, token: string, body: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = url.startsWith("https:") ? requestHttps : requestHttp;
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      authorization: `Bearer ${token}`,
    };
    const req = request(url, { method: "POST", headers, timeout: TIMEOUT_MS, signal }, (res) => {
      res.resume();
      res.once("end", () => resolve(res.statusCode ?? 0));
      res.once("error", reject);
    });
    req.once("timeout", () => req.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    req.once("error", reject);
    req.end(body);
  });
}
