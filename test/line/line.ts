/**
 * What the tests of the line share: one front door over simulated cards, services made for one test (so that health and
 * settings of another never matter), callers on sockets of their own who can hang up, and the park as the only judge.
 * After every test nothing may be held or waiting any more, and no card may ever have run more than its slots.
 */
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { RefusedError } from "../../local/admin.ts";
import type { Park, ParkCard, ParkCounts } from "../../sim/park.ts";
import { SERVICE_DEFAULTS } from "../../sim/timing.ts";
import { type KeyOptions, type Portico, type PorticoOptions, startPortico } from "../support/portico.ts";
import { type Answer, bytesOf, raw, RawCall } from "../support/raw.ts";
import { Caller, eventually } from "./caller.ts";
import type { Became, ClusterStatus, Lease } from "./views.ts";

/** How long a slot may drain after an unclean end, unless a test says otherwise. */
const DRAIN_S = 1;
/** Small, so that drawing takes no time worth speaking of; `service_ms` says how long a run lasts. */
const PICTURE = { width: 32, height: 32, steps: 1 };
const SPEECH = { format: "wav" };
/** Longer than any test. */
const TAKEN_MS = 60_000;

const KINDS = {
  image: { tail: "sdapi/v1/", run: "txt2img" },
  tts: { tail: "AIVoice/TTS/CosyVoice2/", run: "audio-generate" },
};

export interface Service {
  id: string;
  kind: keyof typeof KINDS;
  /** The path that is run. */
  path: string;
}

export interface Call {
  service: Service;
  key: string;
  /** What a run is found by in the park; default: one of its own. */
  prompt?: string;
  /** Merged into the body; a seed makes a picture cacheable. */
  body?: object;
  headers?: Record<string, string>;
}

export class Line {
  #portico: Portico | undefined;
  #services = 0;
  /** Services of the test that runs. */
  #made: string[] = [];
  #prompts = 0;
  /** The service that takes slots for no other reason. */
  #taker: Promise<{ service: Service; key: string }> | undefined;

  get portico(): Portico {
    if (this.#portico === undefined) throw new Error("not started");
    return this.#portico;
  }

  get park(): Park {
    if (this.portico.park === null) throw new Error("no simulated cards");
    return this.portico.park;
  }

  async start(options: PorticoOptions): Promise<void> {
    this.#portico = await startPortico(options);
  }

  async stop(): Promise<void> {
    await this.#portico?.stop();
  }

  /** A service of its own over the park's cards, or over some of them. */
  async service(
    config: Record<string, unknown> = {},
    { kind = "image", cards }: { kind?: Service["kind"]; cards?: string[] } = {},
  ): Promise<Service> {
    this.#services += 1;
    const id = `${kind}-${this.#services}`;
    const { tail, run } = KINDS[kind];
    const route = `/${id}/${tail}`;
    await this.portico.admin("PUT", `/services/${id}`, { kind, route, drain: { max_s: DRAIN_S }, ...config });
    const listed = this.park.cards.filter(({ card }) => cards === undefined || cards.includes(card));
    const put = ({ card, origin, server, gpu, slots }: ParkCard) =>
      this.portico.admin("PUT", `/services/${id}/cards/${card}`, { origin, server, gpu, slots });
    await Promise.all(listed.map(put));
    this.#made.push(id);
    return { id, kind, path: route + run };
  }

  /** A tenant of its own that may run and wait as much as it likes, unless told otherwise. */
  key({ limits, ...options }: KeyOptions = {}): Promise<string> {
    const wide = { requests_per_minute: 1_000_000, burst: 1_000_000, concurrent: 1_000, waiting: 10_000 };
    return this.portico.key({ ...options, limits: { ...wide, ...limits } });
  }

  async call({ service, key, prompt, body, headers }: Call): Promise<Caller> {
    this.#prompts += 1;
    const asked = prompt ?? `prompt ${this.#prompts}`;
    const call = await RawCall.open(this.portico.url);
    const own = service.kind === "image" ? { prompt: asked, ...PICTURE } : { text: asked, ...SPEECH };
    const request = {
      method: "POST",
      target: service.path,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: JSON.stringify({ ...own, ...body }),
    };
    call.send(bytesOf(call.host, request));
    return new Caller(asked, call);
  }

  async ask(call: Call): Promise<Answer> {
    return (await this.call(call)).answered;
  }

  /** So many calls at once, each with a prompt of its own. */
  calls(count: number, call: Call): Promise<Caller[]> {
    return Promise.all(Array.from({ length: count }, () => this.call(call)));
  }

  /** What became of a request; null while nothing is known of it. */
  async became(id: string, key: string): Promise<Became | null> {
    const headers = { authorization: `Bearer ${key}` };
    const answer = await raw(this.portico.url, { target: `/v1/requests/${id}`, headers });
    if (answer.status !== 200) return null;
    const became: Became = JSON.parse(answer.text);
    return became;
  }

  async leases(): Promise<Lease[]> {
    return (await this.portico.admin<{ data: Lease[] }>("GET", "/leases?limit=1000")).data;
  }

  async status(): Promise<ClusterStatus> {
    const answer = await raw(this.portico.url, { target: "/cluster/status" });
    const status: ClusterStatus = JSON.parse(answer.text);
    return status;
  }

  /** How many of a service wait in line. */
  async queued(service: Service): Promise<number> {
    return (await this.status()).services.find(({ id }) => id === service.id)?.queued ?? 0;
  }

  /** Resolves when every caller's run has started. */
  async running(callers: Caller[]): Promise<void> {
    await eventually("all of them run", () => callers.every((caller) => this.starts(caller) > 0));
  }

  /** How often a card started it; whether it ever ran. */
  starts({ prompt }: { prompt: string }): number {
    return this.park.runs().filter((run) => run.prompt === prompt).length;
  }

  /** Takes every slot of every card until what it gives is called; runs that start meanwhile last as long as before. */
  async takeAll(): Promise<() => void> {
    const { service_ms, ghost } = this.park.service;
    const { service, key } = await (this.#taker ??= this.#makeTaker());
    const slots = this.park.cards.reduce((sum, card) => sum + card.slots, 0);
    this.park.setService({ service_ms: TAKEN_MS, ghost: false });
    const callers = await this.calls(slots, { service, key });
    await eventually("every slot is taken", () => this.park.counts().running === slots);
    this.park.setService({ service_ms, ghost });
    return () => {
      for (const caller of callers) caller.hangUp();
    };
  }

  async #makeTaker(): Promise<{ service: Service; key: string }> {
    const service = await this.service({ abandon: "cancel" });
    this.#made = this.#made.filter((id) => id !== service.id);
    return { service, key: await this.key() };
  }

  /** A card tells every service that lists it of every change: those of earlier tests would only slow it down. */
  async forgetServices(): Promise<void> {
    for (const id of this.#made.splice(0)) {
      await this.portico.admin("DELETE", `/services/${id}`).catch((error: unknown) => {
        // The test may have deleted it itself.
        if (!(error instanceof RefusedError && error.status === 404)) throw error;
      });
    }
  }

  /** Every slot of every card can still be taken, all at the same time. */
  async fillsUp(): Promise<void> {
    (await this.takeAll())();
    await this.conserved();
  }

  /** Nothing is held, nothing waits: what every accident has to come to. `since`: as the status said no earlier. */
  async conserved(since = 0): Promise<void> {
    await eventually("no lease is left", async () => (await this.leases()).length === 0);
    await eventually("the status shows an empty house", async () => {
      const { in_use, queued, timestamp } = await this.status();
      return in_use === 0 && queued === 0 && Date.parse(timestamp) >= since;
    });
    await eventually("no card works on", () => this.park.counts().running === 0);
  }
}

/** A card never ran more than its slots, and every run that started has ended exactly once. */
export function expectSound(counts: ParkCounts): void {
  for (const [card, { over, highest }] of Object.entries(counts.cards)) {
    expect({ card, over, within: highest <= 2 }).toEqual({ card, over: 0, within: true });
  }
  const { starts, done, ghosts, stopped, failed, running } = counts;
  expect(done + ghosts + stopped + failed + running).toBe(starts);
}

/** One line for a test file. */
export function openLine(options: PorticoOptions = {}): Line {
  const line = new Line();
  beforeAll(() => line.start(options));
  afterEach(async () => {
    try {
      await line.park.heal();
      await line.conserved();
      expectSound(line.park.counts());
    } finally {
      line.park.setService(SERVICE_DEFAULTS);
      line.park.reset();
      await line.forgetServices();
    }
  });
  afterAll(async () => {
    try {
      // The status may be a second old: the last one is asked for anew, so that no test's leavings are missed.
      await line.conserved(Date.now());
    } finally {
      await line.stop();
    }
  });
  return line;
}
