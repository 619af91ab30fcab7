/**
 * A simulated GPU card: a GPU with slots, behind an HTTP server of its own. Like a real server it never refuses a
 * request because its slots are taken: it accepts the request and counts it.
 */
import type { IncomingMessage } from "node:http";
import { nowMs } from "./clock.ts";
import { Ledger } from "./counts.ts";
import type { ParkTally } from "./counts.ts";
import { breakLater } from "./door.ts";
import type { Exchange, Plan } from "./exchange.ts";
import { FaultState } from "./faults.ts";
import type { Fault } from "./faults.ts";
import { Gpu } from "./gpu.ts";
import type { Sensors } from "./gpu.ts";
import { Heads } from "./heads.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Listener } from "./listener.ts";
import { receive, routeOf } from "./reception.ts";
import type { Reception } from "./reception.ts";
import type { Service } from "./timing.ts";
import type { ServiceToken } from "./tunnel.ts";
import { Work } from "./work.ts";
import type { Workshop } from "./workshop.ts";

/** The number of ended tasks that the WebUI remembers. */
const TASKS_KEPT_MAX = 16;

export interface CardName {
  readonly card: string;
  readonly server: string;
  readonly gpu: number;
  readonly slots: number;
}

export class UnknownCard extends Error {
  constructor(card: string) {
    super(`there is no card ${card}`);
  }
}

export class Card implements Reception {
  readonly name: CardName;
  readonly ledger: Ledger;
  readonly heads = new Heads();
  readonly heartbeat: Heartbeat;
  readonly workshop: Workshop;
  readonly #faults = new FaultState();
  readonly #listener: Listener;
  readonly #gpu: Gpu;
  readonly #service: () => Service;
  readonly #works = new Set<Work>();
  #tasks: string[] = [];
  #token: ServiceToken | null = null;
  #flap: NodeJS.Timeout | null = null;

  constructor(name: CardName, park: ParkTally, workshop: Workshop, service: () => Service) {
    this.name = name;
    this.workshop = workshop;
    this.ledger = new Ledger(name.slots, park);
    this.#service = service;
    this.#gpu = new Gpu(name.slots, service().memory_idle, nowMs());
    this.heartbeat = new Heartbeat(name.card, () => ({
      ...this.sensors(),
      running: this.ledger.running,
    }));
    this.#listener = new Listener((req, res) => void receive(this, req, res));
  }

  get card(): string {
    return this.name.card;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#listener.port}`;
  }

  get service(): Service {
    return this.#service();
  }

  get works(): readonly Work[] {
    return [...this.#works];
  }

  get fault(): Fault | null {
    return this.#faults.fault;
  }

  sensors(): Sensors {
    return this.#gpu.read(nowMs(), this.ledger.running, this.service.memory_idle);
  }

  completed(task: string): boolean {
    return this.#tasks.includes(task);
  }

  refuse(): void {
    this.ledger.refuse();
  }

  listen(): Promise<void> {
    return this.#listener.listen();
  }

  get token(): ServiceToken | null {
    return this.#token;
  }

  setToken(token: ServiceToken | null): void {
    this.#token = token;
  }

  record(req: IncomingMessage): void {
    this.heads.record(req);
  }

  takeFault(path: string): Fault | null {
    return this.#faults.take(path);
  }

  async setFault(fault: Fault | null): Promise<void> {
    if (this.#flap) clearTimeout(this.#flap);
    this.#flap = null;
    this.#faults.set(fault);
    if (fault?.kind === "refuse") this.#goDown(fault.kill);
    else if (fault?.kind === "flap") this.#flapDown(fault);
    else await this.#listener.listen();
  }

  begin(exchange: Exchange, plan: Plan): Work {
    const { req, res, path, fault } = exchange;
    const id = req.headers["x-request-id"];
    const start = {
      id: typeof id === "string" ? id : null,
      path,
      route: routeOf(path)?.tail ?? path,
    };
    const { seed, prompt } = plan;
    const run = this.ledger.start(nowMs(), {
      ...start,
      ...(seed === undefined ? {} : { seed }),
      ...(prompt === undefined ? {} : { prompt }),
    });
    const setting = {
      ledger: this.ledger,
      run,
      ms: plan.ms,
      ghost: this.service.ghost,
      task: plan.task ?? null,
      sketch: plan.sketch ?? null,
    };
    const work = new Work({ ...setting, ended: (over) => this.#ended(over) });
    this.#works.add(work);
    this.#changed();
    res.once("close", () => {
      if (!res.writableFinished) work.left();
    });
    if (res.destroyed || req.socket.destroyed) work.left();
    if (fault?.kind === "reset" && fault.at === "after") breakLater(exchange, work, fault);
    return work;
  }

  reset(): void {
    this.ledger.reset(nowMs());
    this.heads.reset();
    this.heartbeat.reset();
  }

  close(): void {
    if (this.#flap) clearTimeout(this.#flap);
    this.heartbeat.set(null);
    for (const work of this.#works) work.kill();
    this.#listener.close();
  }

  #ended(work: Work): void {
    this.#works.delete(work);
    if (work.task !== null) this.#tasks = [work.task, ...this.#tasks].slice(0, TASKS_KEPT_MAX);
    this.#changed();
  }

  #changed(): void {
    this.#gpu.read(nowMs(), this.ledger.running, this.service.memory_idle);
    this.heartbeat.changed();
  }

  #goDown(kill: boolean): void {
    this.#listener.refuse();
    if (!kill) return;
    for (const work of this.#works) work.kill();
    this.#listener.cut();
  }

  #flapDown(fault: Extract<Fault, { kind: "flap" }>): void {
    this.#goDown(fault.kill);
    this.#flap = setTimeout(() => void this.#flapUp(fault), fault.down_ms);
  }

  async #flapUp(fault: Extract<Fault, { kind: "flap" }>): Promise<void> {
    await this.#listener.listen();
    if (this.#faults.fault === fault) this.#flap = setTimeout(() => this.#flapDown(fault), fault.up_ms);
    else if (this.#faults.fault?.kind === "refuse") this.#listener.refuse(); // set during the reopening
  }
}
