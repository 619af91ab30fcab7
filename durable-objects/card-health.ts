/** The card's circuit breakers (breaker.ts), one per service, persisted in its storage. */
import { abandoned, failed, gate, type Health, HEALTHY, succeeded, tried } from "./breaker.ts";
import type { Attempt, ClaimNo, Ending, BreakerState, Listing } from "./card-protocol.ts";

type Breaker = Listing["breaker"];

/** Persistence of breaker states. */
export interface HealthStore {
  health(): Map<string, Health>;
  keepHealth(service: string, health: Health): void;
}

export class CardHealth {
  readonly #store: HealthStore;
  /** The breaker limits of a service, if the card is listed in it. */
  readonly #limits: (service: string) => Breaker | undefined;
  readonly #health: Map<string, Health>;

  constructor(store: HealthStore, limits: (service: string) => Breaker | undefined) {
    this.#store = store;
    this.#limits = limits;
    this.#health = store.health();
  }

  gate(service: string, now: number): BreakerState {
    const limits = this.#limits(service) ?? { maxFails: 1, failTimeoutMs: 0 };
    return gate(this.#of(service), limits, now);
  }

  /** The reason why the service gets no slot now, given how many of its requests are running; or null. */
  shut({ service, pressed }: Attempt, running: number, now: number): ClaimNo | null {
    const { state, untilAt, most, proven } = this.gate(service, now);
    if (state === "open" && pressed && !proven) return null;
    if (state === "open" || state === "trial") return { no: "ejected", untilAt };
    return most !== undefined && running >= most ? { no: "full" } : null;
  }

  /** A run starts. Unless the breaker is closed, it is the trial. */
  begun({ service, attempt }: Attempt, now: number): void {
    if (this.gate(service, now).state !== "closed") this.#set(service, tried(this.#of(service), attempt));
  }

  judge(service: string, attempt: string, ending: Ending, now: number): void {
    const before = this.#of(service);
    const limits = this.#limits(service);
    if (ending.health === "ok") this.#set(service, succeeded(before, attempt, now));
    else if (ending.health === "failed" && limits !== undefined)
      this.#set(service, failed(before, limits, attempt, ending.reason ?? "failed", now));
    else this.#set(service, abandoned(before, attempt));
  }

  /** A run ended without a verdict. */
  abandoned({ service, attempt }: { service: string; attempt: string }): void {
    this.#set(service, abandoned(this.#of(service), attempt));
  }

  #of(service: string): Health {
    return this.#health.get(service) ?? HEALTHY;
  }

  #set(service: string, health: Health): void {
    if (health === this.#of(service)) return;
    this.#health.set(service, health);
    this.#store.keepHealth(service, health);
  }
}
