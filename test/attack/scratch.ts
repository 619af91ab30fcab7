/** Objects that an attack may change, and calls on them. Everything else must stay as it was. */
import { beforeAll } from "vitest";
import { type Doorway, doorway } from "../contract/doorway.ts";
import type { Answer } from "../support/raw.ts";
import { exampleOf, filled, type Operation, operationsOf, type Schema, sentOf } from "./operations.ts";

type Rows = { id: string }[];

/** Placeholder that is replaced by raw JSON. */
const HERE = "put it here";

export class Scratch {
  readonly door: Doorway;
  calls: Operation[] = [];
  #ids: Record<string, string> = {};
  #cardToken = "";
  /** Rows that existed before, by list. */
  #before = new Map<string, Rows>();

  constructor(door: Doorway) {
    this.door = door;
  }

  async open(): Promise<void> {
    const { portico } = this.door;
    for (const list of ["services", "cards", "tenants", "keys"]) this.#before.set(list, await this.#rows(list));
    const tenant = await this.door.tenant();
    const key: { id: string } = await portico.admin("POST", `/tenants/${tenant}/keys`, {});
    await portico.admin("PUT", "/services/scratch", { kind: "http", route: "/scratch/" });
    const listing = { origin: "http://127.0.0.1:9", state: "disabled" };
    const card: { token: string } = await portico.admin("PUT", "/services/scratch/cards/scratch-card", listing);
    this.#cardToken = card.token;
    this.#ids = { services: "scratch", cards: "scratch-card", tenants: tenant, keys: key.id };
    this.calls = await operationsOf(this.door);
  }

  get withBody(): Operation[] {
    return this.calls.filter(({ body }) => body !== null);
  }

  /** Makes a call on the scratch objects, with this raw body. */
  put(call: Operation, body: string): Promise<Answer> {
    const headers = { "content-type": "application/json" };
    return this.door.ask(filled(call.path, this.#ids), { method: call.method, key: this.#key(call), body, headers });
  }

  /** Makes a call with its owner's credential, on any target. */
  ask(call: Operation, target: string): Promise<Answer> {
    return this.door.ask(target, { key: this.#key(call), ...sentOf(call) });
  }

  #key({ of }: Operation): string {
    if (of === "card") return this.#cardToken;
    return of === "operator" ? this.door.portico.adminToken : this.door.ownKey;
  }

  /** Returns the rows that existed before, as they were and as they are now. */
  async others(): Promise<{ before: Record<string, Rows>; now: Record<string, Rows> }> {
    const now: Record<string, Rows> = {};
    for (const [list, rows] of this.#before) {
      const ids = new Set(rows.map(({ id }) => id));
      now[list] = (await this.#rows(list)).filter(({ id }) => ids.has(id));
    }
    return { before: Object.fromEntries(this.#before), now };
  }

  /** Lists rows without what changes by itself: live state of cards and lines, and a key's last use. */
  async #rows(list: string): Promise<Rows> {
    const { data }: { data: Rows } = await this.door.portico.admin("GET", `/${list}?limit=1000`);
    return data.map((row) => ({ ...row, live: null, last_used_at: null }));
  }
}

/** Creates one scratch for all tests of a file. */
export function scratch(): Scratch {
  const made = new Scratch(doorway());
  beforeAll(() => made.open());
  return made;
}

/** Lists the schemas of a body's fields by path, including fields of nested objects. */
export function fieldsOf(schema: Schema, at: string[] = []): { path: string[]; schema: Schema }[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, one]) => {
    const of = one.anyOf?.[0] ?? one;
    const path = [...at, name];
    return of.properties === undefined ? [{ path, schema: of }] : fieldsOf(of, path);
  });
}

/** Returns a body that the call accepts, with this JSON at this path. */
export function bodyWith({ body }: Operation, path: string[], json: string): string {
  const whole: Record<string, unknown> = { ...(exampleOf(body ?? {}) as object) };
  let at = whole;
  for (const name of path.slice(0, -1)) at = at[name] = {} as Record<string, unknown>;
  at[path.at(-1) ?? ""] = HERE;
  return JSON.stringify(whole).replace(JSON.stringify(HERE), () => json);
}

/** Returns a body that the call accepts, with one more field. */
export function bodyAnd({ body }: Operation, name: string, json: string): string {
  const whole = JSON.stringify(exampleOf(body ?? {}));
  return `{${JSON.stringify(name)}:${json}${whole === "{}" ? "" : ","}${whole.slice(1)}`;
}
