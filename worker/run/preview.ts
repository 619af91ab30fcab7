/**
 * A picture as far as it is, while its card paints it: asked of the very card that holds the lease. A WebUI shows the
 * picture it is at, whoever asked for it: so none is taken unless this run is the only one on the card, by the Card's own
 * leases before and after the look and by the origin's own count.
 */
import type { Ask } from "../ask.ts";
import { readWhole } from "../body/bounded.ts";
import { Room } from "../body/buffers.ts";
import { config } from "../env.ts";
import type { Grant } from "./lease.ts";
import { at, type Task } from "../dialects/mapping.ts";
import { callOrigin, isFailure } from "../origin.ts";
import type { Mouth } from "../mouth.ts";
import { Silence } from "./silence.ts";
import { answered } from "../../durable-objects/answer-protocol.ts";

const LOOK_MS = 400;
/** Longest that an origin may take to show it, and most bytes of its answer. */
const READ_MS = 3_000;
const BYTES_MAX = 8 * 1024 * 1024;
/** An origin that shows nothing so often in a row is not asked again. */
const MISSES_MAX = 5;

type Progress = NonNullable<Task["progress"]>;
type Show = (image: string, index: number) => Promise<void>;

export class Preview {
  readonly #mouth: Mouth;
  readonly #ask: Ask;
  readonly #progress: Progress;
  readonly #most: number;
  readonly #show: Show;
  #grant: Grant | null = null;
  #shown = 0;
  #last = "";

  /** Shows `most` of them, evenly over the run; fewer of a quick one. */
  constructor(mouth: Mouth, ask: Ask, progress: Progress, most: number, show: Show) {
    this.#mouth = mouth;
    this.#ask = ask;
    this.#progress = progress;
    this.#most = most;
    this.#show = show;
  }

  /** This card runs it now; another one did not bring it to its end. */
  follow(grant: Grant): void {
    this.#grant = grant;
    void this.#watch(grant);
  }

  stop(): void {
    this.#grant = null;
  }

  async #watch(grant: Grant): Promise<void> {
    for (let misses = 0; this.#isOn(grant) && misses < MISSES_MAX;) {
      await scheduler.wait(LOOK_MS);
      if (!this.#isOn(grant)) return;
      try {
        const image = await this.#look(grant);
        // The run may have ended meanwhile, and the next one begun.
        if (image === null || image === this.#last || !this.#isOn(grant)) continue;
        this.#last = image;
        await this.#show(image, this.#shown++);
        misses = 0;
      } catch (error) {
        misses++;
        console.warn(JSON.stringify({ event: "no_preview", card: grant.card, error: String(error) }));
      }
    }
  }

  #isOn(grant: Grant): boolean {
    return this.#grant === grant && this.#shown < this.#most;
  }

  /** The picture if it is time for one and it is ours for certain; else null. */
  async #look(grant: Grant): Promise<string | null> {
    if (!(await this.#isAlone(grant))) return null;
    const seen = await this.#seen(grant);
    const { share, image, running } = this.#progress;
    const done = at(seen, share);
    const due = typeof done === "number" && done >= (this.#shown + 1) / (this.#most + 1);
    const picture = at(seen, image);
    if (!due || typeof picture !== "string" || at(seen, running) !== 1) return null;
    return (await this.#isAlone(grant)) ? picture.replace(/^data:[^,]{0,200},/, "") : null;
  }

  async #isAlone({ card, number }: Grant): Promise<boolean> {
    const { held } = await answered(this.#mouth.env.CARD.getByName(card).report());
    return held.length === 1 && held[0]?.number === number && held[0].state === "leased";
  }

  async #seen(grant: Grant): Promise<unknown> {
    const { env, trace, base } = this.#mouth;
    const question: Ask = {
      ...this.#ask,
      as: "read",
      method: "GET",
      path: this.#ask.service.route + this.#progress.path,
      headers: new Headers(),
      body: { kind: "none" },
    };
    const controller = new AbortController();
    const silence = new Silence(READ_MS, controller);
    const late = setTimeout(() => controller.abort(new Error("too slow")), READ_MS);
    const route = { ...grant, access: config(env).access };
    const call = { requestId: trace.id, number: null, clientAddress: null, base, cacheable: false, readMs: READ_MS };
    const room = new Room();
    try {
      const response = await callOrigin(question, route, call, controller, silence);
      if (isFailure(response)) throw new Error(response.reason);
      const bytes = response.ok ? await readWhole(response.body, { max: BYTES_MAX, times: 3, room }) : null;
      if (bytes === null) throw new Error(`status ${response.status}, or too large`);
      return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
    } finally {
      clearTimeout(late);
      silence.stop();
      controller.abort();
      room.free();
    }
  }
}
