/**
 * What each contender adds to one caller's latency. The same request goes through each in turn, so that other load on
 * the machine affects all alike. The cards alone are the baseline.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { CardPark } from "./cards.ts";
import type { Contender, Door } from "./contenders.ts";
import { mean, percentile } from "./figures.ts";
import { now, pictureOf } from "./users.ts";
import { Wire } from "./wire.ts";

const SERVICE_MS = 20;
/** Share of the rounds that is not counted. */
const WARM_SHARE = 0.1;
/** Lets the work after an answer (records, stores) finish before the next contender's turn. */
const PAUSE_MS = 5;

export interface OneCaller {
  contender: string;
  p50: number;
  p95: number;
  p99: number;
  /** Mean ms by part of `Server-Timing`, where it is sent. */
  stages: Record<string, number>;
}

/**
 * The latency beyond the cards' own median; a difference of two tails would credit a contender with the cards'
 * outliers. Null if the cards alone were not measured.
 */
export function added(one: OneCaller, callers: readonly OneCaller[]): Pick<OneCaller, "p50" | "p95" | "p99"> | null {
  const zero = callers.find(({ contender }) => contender === "direct")?.p50;
  return zero === undefined ? null : { p50: one.p50 - zero, p95: one.p95 - zero, p99: one.p99 - zero };
}

export async function measureOneCaller(
  park: CardPark,
  doors: readonly { contender: Contender; door: Door }[],
  rounds: number,
): Promise<OneCaller[]> {
  await park.setTiming({ service_ms: SERVICE_MS, jitter: 0 });
  await park.settle();
  const callers = doors.map(({ contender, door }) => new Caller(contender, door));
  const warm = Math.ceil(rounds * WARM_SHARE);
  for (let round = 0; round < rounds; round++) {
    for (const caller of callers) {
      await caller.call(round, round >= warm);
      await delay(PAUSE_MS);
    }
  }
  for (const caller of callers) caller.end();
  return callers.map((caller) => caller.figures());
}

class Caller {
  readonly #contender: Contender;
  readonly #door: Door;
  readonly #wires = new Map<number, Wire>();
  readonly #ms: number[] = [];
  readonly #stages = new Map<string, number[]>();

  constructor(contender: Contender, door: Door) {
    this.#contender = contender;
    this.#door = door;
  }

  async call(round: number, counts: boolean): Promise<void> {
    const { port, headers } = this.#door.target(round);
    const wire = this.#wires.get(port) ?? new Wire(port, "127.0.0.1");
    this.#wires.set(port, wire);
    const request = pictureOf(`one caller, round ${round}`, headers);
    const startedAt = now();
    const { status, serverTiming } = await wire.send(request);
    const ms = now() - startedAt;
    if (status !== 200) throw new Error(`${this.#contender.title} answered one caller with ${status}`);
    if (!counts) return;
    this.#ms.push(ms);
    for (const [, name = "", part = "0"] of serverTiming.matchAll(/(\w+);dur=([\d.]+)/g))
      this.#stages.set(name, [...(this.#stages.get(name) ?? []), Number(part)]);
  }

  end(): void {
    for (const wire of this.#wires.values()) wire.hangUp();
  }

  figures(): OneCaller {
    const sorted = this.#ms.toSorted((a, b) => a - b);
    const at = (share: number) => percentile(sorted, share) ?? Number.NaN;
    const stages = Object.fromEntries(Array.from(this.#stages, ([name, parts]) => [name, mean(parts)]));
    return { contender: this.#contender.name, p50: at(0.5), p95: at(0.95), p99: at(0.99), stages };
  }
}
