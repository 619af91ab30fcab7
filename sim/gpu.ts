/** The card's sensors: memory and utilization, which follow the load smoothly. Pure. */

/** Time constant: the sensors close about two thirds of a gap in this time. */
const LAG_MS = 1_500;
const MEMORY_PER_RUN = 0.23;
const MEMORY_HIGHEST = 0.98;
const IDLE_UTILIZATION = 0.01;
const FULL_UTILIZATION = 0.97;

export interface Sensors {
  /** 0 to 1. */
  readonly gpu_memory_ratio: number;
  readonly gpu_utilization: number;
}

export class Gpu {
  readonly #slots: number;
  #memory: number;
  #utilization = IDLE_UTILIZATION;
  #running = 0;
  #since: number;

  constructor(slots: number, memoryIdle: number, now: number) {
    this.#slots = slots;
    this.#memory = memoryIdle;
    this.#since = now;
  }

  /** Returns the current readings; `running` is the load from now on. */
  read(now: number, running: number, memoryIdle: number): Sensors {
    const share = 1 - Math.exp(-Math.max(0, now - this.#since) / LAG_MS);
    const load = Math.min(1, this.#running / this.#slots);
    const memory = Math.min(MEMORY_HIGHEST, memoryIdle + MEMORY_PER_RUN * this.#running);
    this.#memory += (memory - this.#memory) * share;
    this.#utilization += (IDLE_UTILIZATION + (FULL_UTILIZATION - IDLE_UTILIZATION) * load - this.#utilization) * share;
    this.#since = now;
    this.#running = running;
    return { gpu_memory_ratio: round(this.#memory), gpu_utilization: round(this.#utilization) };
  }
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
