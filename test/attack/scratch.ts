/** Things that an attack may do anything with, and how to call them; everything else must be as it was before. */
import { beforeAll } from "vitest";
import { type Doorway, doorway } from "../contract/doorway.ts";
import type { Answer } from "../support/raw.ts";
import { exampleOf, filled, type Operation, operationsOf, type Schema, sentOf } from "./operations.ts";

type Rows = { id: string }[];

/** Stands in JSON where something else shall. */
const HERE = "put it here";

export class Scratch {
  readonly door: Doorway;
  calls: Operation[] = [];
  #ids: Record<string, string> = {};
  #cardToken = "";
  /** What there was before, by list and id. */
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

  /** A call on what is there to be hurt, with a body as it stands. */
  put(call: Operation, body: string): Promise<Answer> {
    const headers = { "content-type": "application/json" };
    return this.door.ask(filled(call.path, this.#ids), { method: call.method, key: this.#key(call), body, headers });
  }

  /** A call as its owner makes it, on whatever it names. */
  ask(call: Operation, target: string): Promise<Answer> {
    return this.door.ask(target, { key: this.#key(call), ...sentOf(call) });
  }

  #key({ of }: Operation): string {
    if (of === "card") return this.#cardToken;
    return of === "operator" ? this.door.portico.adminToken : this.door.ownKey;
  }

  /** What there was before, as it was and as it is. */
  async others(): Promise<{ before: Record<string, Rows>; now: Record<string, Rows> }> {
    const now: Record<string, Rows> = {};
    for (const [list, rows] of this.#before) {
      const ids = new Set(rows.map(({ id }) => id));
      now[list] = (await this.#rows(list)).filter(({ id }) => ids.has(id));
    }
    return { before: Object.fromEntries(this.#before), now };
  }

  /** But for what changes by itself: what cards and lines are doing, and when a key came last. */
  async #rows(list: string): Promise<Rows> {
    const { data }: { data: Rows } = await this.door.portico.admin("GET", `/${list}?limit=1000`);
    return data.map((row) => ({ ...row, live: null, last_used_at: null }));
  }
}

/** One for all tests of a file. */
export function scratch(): Scratch {
  const made = new Scratch(doorway());
  beforeAll(() => made.open());
  return made;
}

/** Schemas of a body's fields by their path, down to those of objects in it. */
export function fieldsOf(schema: Schema, at: string[] = []): { path: string[]; schema: Schema }[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, one]) => {
    const of = one.anyOf?.[0] ?? one;
    const path = [...at, name];
    return of.properties === undefined ? [{ path, schema: of }] : fieldsOf(of, path);
  });
}

/** A body that the call takes, but with this JSON at this path. */
export function bodyWith({ body }: Operation, path: string[], json: string): string {
  const whole: Record<string, unknown> = { ...(exampleOf(body ?? {}) as object) };
  let at = whole;
  for (const name of path.slice(0, -1)) at = at[name] = {} as Record<string, unknown>;
  at[path.at(-1) ?? ""] = HERE;
  return JSON.stringify(whole).replace(JSON.stringify(HERE), () => json);
}

/** A body that the call takes, but with one field more. */
export function bodyAnd({ body }: Operation, name: string, json: string): string {
  const whole = JSON.stringify(exampleOf(body ?? {}));
  return `{${JSON.stringify(name)}:${json}${whole === "{}" ? "" : ","}${whole.slice(1)}`;
}
