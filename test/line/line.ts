/**
 * The fixture of the tests in this folder: one front door over simulated cards, services made for one test (so that
 * the health and settings of another never matter), callers on their own sockets that can hang up, and the simulated
 * cards as the only source of truth. After every test nothing may be held or waiting, and no card may ever have run
 * more than its slots.
 */
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { RefusedError } from "../../local/admin.ts";
import type { Park, ParkCard, ParkCounts } from "../../sim/park.ts";
import { SERVICE_DEFAULTS } from "../../sim/timing.ts";
import { type KeyOptions, type Portico, type PorticoOptions, startPortico } from "../support/portico.ts";
import { type Answer, bytesOf, raw, RawCall } from "../support/raw.ts";
import { Caller, eventually } from "./caller.ts";
import type { Became, ClusterStatus, Lease } from "./views.ts";

/** How long a slot may drain after an unclean end, unless a test sets another time. */
const DRAIN_S = 1;
/** Small, so that drawing takes almost no time; `service_ms` sets how long a run lasts. */
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
  /** The path that runs. */
  path: string;
}

export interface Call {
  service: Service;
  key: string;
  /** Identifies a run at the simulated cards; unique by default. */
  prompt?: string;
  /** Merged into the body; a seed makes a picture cacheable. */
  body?: object;
  headers?: Record<string, string>;
}

export class Line {
  #portico: Portico | undefined;
  #services = 0;
  /** Services of the current test. */
  #made: string[] = [];
  #prompts = 0;
  /** The service whose only purpose is to occupy slots. */
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

  /** Creates a service over all simulated cards, or over some of them. */
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

  /** Creates a key of a new tenant with practically no limits, unless given. */
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

  /** Sends `count` calls at once, each with its own prompt. */
  calls(count: number, call: Call): Promise<Caller[]> {
    return Promise.all(Array.from({ length: count }, () => this.call(call)));
  }

  /** The record of a request; null while it is unknown. */
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

  /** How many requests of a service wait in line. */
  async queued(service: Service): Promise<number> {
    return (await this.status()).services.find(({ id }) => id === service.id)?.queued ?? 0;
  }

  /** Resolves when every caller's run has started. */
  async running(callers: Caller[]): Promise<void> {
    await eventually("all of them run", () => callers.every((caller) => this.starts(caller) > 0));
  }

  /** How often a card started the caller's run. */
  starts({ prompt }: { prompt: string }): number {
    return this.park.runs().filter((run) => run.prompt === prompt).length;
  }

  /** Occupies every slot of every card until the returned function is called; other runs last as long as before. */
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

  /**
   * Deletes the test's services: a card reports every change to each service that lists it, so they slow later tests.
   */
  async forgetServices(): Promise<void> {
    for (const id of this.#made.splice(0)) {
      await this.portico.admin("DELETE", `/services/${id}`).catch((error: unknown) => {
        // The test may have deleted it itself.
        if (!(error instanceof RefusedError && error.status === 404)) throw error;
      });
    }
  }

  /** Expects that all slots of all cards can be occupied at the same time. */
  async fillsUp(): Promise<void> {
    (await this.takeAll())();
    await this.conserved();
  }

  /** Expects that nothing is held and nothing waits. `since`: minimum timestamp of the status. */
  async conserved(since = 0): Promise<void> {
    await eventually("no lease is left", async () => (await this.leases()).length === 0);
    await eventually("the status shows an empty house", async () => {
      const { in_use, queued, timestamp } = await this.status();
      return in_use === 0 && queued === 0 && Date.parse(timestamp) >= since;
    });
    await eventually("no card works on", () => this.park.counts().running === 0);
  }
}

/** Expects that no card ran more than its slots, and that every run that started has ended exactly once. */
export function expectSound(counts: ParkCounts): void {
  for (const [card, { over, highest }] of Object.entries(counts.cards)) {
    expect({ card, over, within: highest <= 2 }).toEqual({ card, over: 0, within: true });
  }
  const { starts, done, ghosts, stopped, failed, running } = counts;
  expect(done + ghosts + stopped + failed + running).toBe(starts);
}

/** Opens a Line for a test file, and checks after each test that nothing is left. */
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
      // The status may be a second old: a fresh one is required, so that nothing left by the last test is missed.
      await line.conserved(Date.now());
    } finally {
      await line.stop();
    }
  });
  return line;
}
