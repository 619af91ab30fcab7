/**
 * Previews of an image while it is being generated, read from the card that holds the lease. A WebUI has one current
 * image, whoever asked for it. So a preview is used only when this run is alone on the card: by the Card's leases
 * before and after the look, and by the origin's own count of running requests.
 */
import type { Ask } from "../ask.ts";
import { readWhole } from "../body/bounded.ts";
import { Room } from "../body/buffers.ts";
import { config } from "../env.ts";
import type { Grant } from "./lease.ts";
import type { Task } from "../dialects/mapping.ts";
import { at } from "../../durable-objects/json-pointer.ts";
import { callOrigin, isFailure } from "../origin.ts";
import type { CallContext } from "../call-context.ts";
import { ReadTimeout } from "./read-timeout.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

const LOOK_MS = 400;
/** Timeout of a preview request, ms, and the maximum size of its answer, bytes. */
const READ_MS = 3_000;
const BYTES_MAX = 8 * 1024 * 1024;
/** After this many consecutive failures, the origin is not asked again. */
const MISSES_MAX = 5;

type Progress = NonNullable<Task["progress"]>;
type Show = (image: string, index: number) => Promise<void>;

export class Preview {
  readonly #context: CallContext;
  readonly #ask: Ask;
  readonly #progress: Progress;
  readonly #most: number;
  readonly #show: Show;
  #grant: Grant | null = null;
  #shown = 0;
  #last = "";

  /** Shows up to `most` previews, evenly spread over the run; fewer if the run is quick. */
  constructor(context: CallContext, ask: Ask, progress: Progress, most: number, show: Show) {
    this.#context = context;
    this.#ask = ask;
    this.#progress = progress;
    this.#most = most;
    this.#show = show;
  }

  /** Follows the run on this card, replacing an earlier card that failed. */
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
        // The run may have ended meanwhile and the next one begun.
        if (image === null || image === this.#last || !this.#isOn(grant)) continue;
        this.#last = image;
        await this.#show(image, this.#shown++);
        misses = 0;
      } catch (error) {
        misses++;
        console.warn(JSON.stringify({ event: "preview_failed", card: grant.card, error: String(error) }));
      }
    }
  }

  #isOn(grant: Grant): boolean {
    return this.#grant === grant && this.#shown < this.#most;
  }

  /** Returns the current image if a preview is due and the image certainly belongs to this run, otherwise null. */
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
    const { held } = await withTimeout(this.#context.env.CARD.getByName(card).report());
    return held.length === 1 && held[0]?.number === number && held[0].state === "leased";
  }

  async #seen(grant: Grant): Promise<unknown> {
    const { env, trace, base } = this.#context;
    const question: Ask = {
      ...this.#ask,
      as: "read",
      method: "GET",
      path: this.#ask.service.route + this.#progress.path,
      headers: new Headers(),
      body: { kind: "none" },
    };
    const controller = new AbortController();
    const readTimeout = new ReadTimeout(READ_MS, controller);
    const late = setTimeout(() => controller.abort(new Error("too slow")), READ_MS);
    const route = { ...grant, access: config(env).access };
    const call = { requestId: trace.id, number: null, clientAddress: null, base, cacheable: false, readMs: READ_MS };
    const room = new Room();
    try {
      const response = await callOrigin(question, route, call, controller, readTimeout);
      if (isFailure(response)) throw new Error(response.reason);
      const bytes = response.ok ? await readWhole(response.body, { max: BYTES_MAX, times: 3, room }) : null;
      if (bytes === null || typeof bytes === "string") throw new Error(`status ${response.status}, or too large`);
      return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
    } finally {
      clearTimeout(late);
      readTimeout.stop();
      controller.abort();
      room.free();
    }
  }
}
