/** The Card's SQLite storage: leases, health per service, configuration, counters. */
import type { Health } from "./breaker.ts";
import type { CardConfig, CardCounters } from "./card-protocol.ts";
import type { Lease } from "./slots.ts";

const NO_COUNTS: CardCounters = {
  claims: 0,
  done: 0,
  failed: 0,
  orphaned: 0,
  reaped: 0,
  refused: 0,
  drained: 0,
  late: 0,
  stale: 0,
};

export class CardStore {
  readonly #storage: DurableObjectStorage;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    storage.sql.exec(`
      CREATE TABLE IF NOT EXISTS leases (number INTEGER PRIMARY KEY, lease TEXT NOT NULL);
      CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    `);
  }

  /** Grows with every start of the object, which orders its reports across restarts. */
  nextIncarnation(): number {
    const next = Number(this.#get("incarnation") ?? 0) + 1;
    this.#put("incarnation", next);
    return next;
  }

  config(): CardConfig | null {
    return (this.#get("config") as CardConfig | undefined) ?? null;
  }

  keepConfig(config: CardConfig): void {
    this.#put("config", config);
  }

  health(): Map<string, Health> {
    const rows = this.#storage.sql.exec<{ name: string; value: string }>(
      "SELECT name, value FROM kept WHERE name LIKE 'health:%'",
    );
    return new Map([...rows].map((row) => [row.name.slice("health:".length), JSON.parse(row.value) as Health]));
  }

  keepHealth(service: string, health: Health): void {
    this.#put(`health:${service}`, health);
  }

  counters(): CardCounters {
    return { ...NO_COUNTS, ...(this.#get("counters") as Partial<CardCounters> | undefined) };
  }

  leases(): Lease[] {
    const rows = this.#storage.sql.exec<{ lease: string }>("SELECT lease FROM leases ORDER BY number");
    return [...rows].map((row) => JSON.parse(row.lease) as Lease);
  }

  keepLeases(changed: Lease[], forgotten: number[], counters: CardCounters): void {
    for (const lease of changed) {
      this.#storage.sql.exec(
        "INSERT OR REPLACE INTO leases (number, lease) VALUES (?, ?)",
        lease.number,
        JSON.stringify(lease),
      );
    }
    for (const number of forgotten) this.#storage.sql.exec("DELETE FROM leases WHERE number = ?", number);
    this.#put("counters", counters);
  }

  #get(name: string): unknown {
    const row = this.#storage.sql.exec<{ value: string }>("SELECT value FROM kept WHERE name = ?", name).toArray()[0];
    return row === undefined ? undefined : JSON.parse(row.value);
  }

  #put(name: string, value: unknown): void {
    this.#storage.sql.exec("INSERT OR REPLACE INTO kept (name, value) VALUES (?, ?)", name, JSON.stringify(value));
  }
}
