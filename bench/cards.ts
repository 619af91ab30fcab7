/** The simulated cards of a measurement, in a separate process. Their counts are the source of truth. */
import { setTimeout as delay } from "node:timers/promises";
import type { CardRun, CardsSeen } from "./figures.ts";
import { startOwn } from "./program.ts";

const PARK = { servers: 3, gpus: 2 };
const SLOTS_EACH = 2;
/** Ghosts and departed callers' requests have ended by then, or something is stuck. */
const IDLE_MS_MAX = 60_000;
const POLL_MS = 25;
/** Consecutive polls without a run: between two runs of a peer's queue a card is briefly idle. */
const IDLE_LOOKS = 8;

export interface CardPlace {
  card: string;
  server: string;
  gpu: number;
  port: number;
}

export interface Timing {
  /** Mean time of a run in ms, and its spread as a share. */
  service_ms: number;
  jitter: number;
}

interface Report {
  running: number;
  highest: number;
  over: number;
  cards: { slots: number; counts: { highest: number } }[];
}

export class CardPark {
  readonly places: readonly CardPlace[];
  readonly #control: string;
  readonly #stop: () => Promise<void>;

  private constructor(places: readonly CardPlace[], control: string, stop: () => Promise<void>) {
    this.places = places;
    this.#control = control;
    this.#stop = stop;
  }

  /** Starts the cards, six by default, with two slots each. A run continues when its caller leaves. */
  static async open({ servers, gpus } = PARK): Promise<CardPark> {
    const shape = ["--servers", String(servers), "--gpus", String(gpus), "--slots", String(SLOTS_EACH)];
    const { ready, stop } = await startOwn("sim/main.ts", shape);
    const { control, cards } = ready as { control: string; cards: (Omit<CardPlace, "port"> & { origin: string })[] };
    const places = cards.map(({ origin, ...card }) => ({ ...card, port: Number(new URL(origin).port) }));
    return new CardPark(places, control, stop);
  }

  async setTiming(timing: Timing): Promise<void> {
    await this.#call("POST", "/service", timing);
  }

  /** Makes the first card answer every request with 500 at once. */
  async sicken(): Promise<void> {
    await this.#call("POST", `/cards/${this.places[0]?.card}/fault`, { kind: "status", status: 500, at: "start" });
  }

  async heal(): Promise<void> {
    await this.#call("DELETE", "/cards/*/fault");
  }

  /** Waits until no run is left, and resets all counts. */
  async settle(): Promise<void> {
    const until = performance.now() + IDLE_MS_MAX;
    for (let idle = 0; idle < IDLE_LOOKS; await delay(POLL_MS)) {
      const { running } = await this.#call<Report>("GET", "/cards");
      idle = running === 0 ? idle + 1 : 0;
      if (performance.now() > until) throw new Error(`${running} runs do not end`);
    }
    await this.#call("POST", "/reset");
  }

  async seen(): Promise<CardsSeen> {
    const [report, { runs }] = await Promise.all([
      this.#call<Report>("GET", "/cards"),
      this.#call<{ runs: CardRun[] }>("GET", "/runs"),
    ]);
    return {
      runs,
      over: report.over,
      highest: report.highest,
      highestOnOne: Math.max(...report.cards.map(({ counts }) => counts.highest)),
      slots: report.cards.reduce((sum, { slots }) => sum + slots, 0),
    };
  }

  async close(): Promise<void> {
    await this.#stop();
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await fetch(this.#control + path, { method, ...sent });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    const value: T = await answer.json();
    return value;
  }
}
