/**
 * The whole front door for one test file: the bundle in the runtime with an empty database and no cards, and helpers.
 */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, inject } from "vitest";
import { type Runtime, startRuntime } from "../../local/runtime.ts";
import type { Secrets } from "../../local/secrets.ts";
import { temporaryFolders } from "../support/folders.ts";

export const SECRETS = {
  ADMIN_TOKEN: "test-admin-token-000000000000000000000000",
  KEY_SECRET: "test-key-secret-0000000000000000000000000",
  URL_KEYS: "k1:test-url-key-00000000000000000000000000000",
};

/** The members of answers that tests read. The type does not promise that they are present. */
export interface Json {
  id: string;
  version: number;
  token: string;
  key: string;
  tail: string;
  tenant: string;
  card: string;
  number: number;
  holder: string;
  age_ms: number;
  action: string;
  at: string;
  before: unknown;
  after: unknown;
  expires_at: string;
  timestamp: string;
  cards: string[];
  cache: unknown;
  paths: unknown;
  limits: unknown;
  model_version: string | null;
  live: { heartbeat: { at: string }; gates: Record<string, { until_at: string }> };
  data: Json[];
  next_cursor: string | null;
  error?: { reason: string; param: string | null };
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  json: Json;
}

export interface Sent {
  token?: string | null;
  headers?: Record<string, string>;
  /** Sent unchanged instead of a JSON body. */
  text?: string;
}

export class FrontDoor {
  #runtime: Runtime | undefined;
  stateDir = "";

  get runtime(): Runtime {
    if (this.#runtime === undefined) throw new Error("not started");
    return this.#runtime;
  }

  async start(stateDir: string, without: string[], vars: Record<string, string>): Promise<void> {
    this.stateDir = stateDir;
    const path = inject("bundle");
    const text = await readFile(path, "utf8");
    const secrets: Secrets = JSON.parse(
      JSON.stringify(SECRETS, (name, value: unknown) => (without.includes(name) ? undefined : value)),
    );
    this.#runtime = await startRuntime({ bundle: { path, text }, host: "127.0.0.1", port: 0, stateDir, secrets, vars });
  }

  /** Sends a request, with the admin token unless `sent` says otherwise. */
  async ask(method: string, path: string, body?: unknown, sent: Sent = {}): Promise<Answer> {
    const { token = SECRETS.ADMIN_TOKEN, headers = {}, text } = sent;
    const payload = text ?? (body === undefined ? null : JSON.stringify(body));
    const answer = await fetch(`${this.runtime.url}${path}`, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(payload === null ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      body: payload,
      signal: AbortSignal.timeout(10_000),
    });
    const said = await answer.text();
    const isJson = answer.headers.get("content-type")?.includes("json") === true;
    const json: Json = JSON.parse(isJson && said !== "" ? said : "{}");
    return { status: answer.status, headers: answer.headers, text: said, json };
  }

  admin(method: string, path: string, body?: unknown, sent: Sent = {}): Promise<Answer> {
    return this.ask(method, `/admin/v1${path}`, body, sent);
  }

  /** Calls the admin API and returns the JSON; fails the test unless the call succeeds. */
  async done(method: string, path: string, body?: unknown): Promise<Json> {
    const answer = await this.admin(method, path, body);
    expect(answer.status, `${method} ${path}: ${answer.text}`).toBeLessThan(300);
    return answer.json;
  }

  /** Calls the admin API and returns the refusal as `status reason param`. */
  async refusal(method: string, path: string, body?: unknown, sent: Sent = {}): Promise<string> {
    const { status, json } = await this.admin(method, path, body, sent);
    return [status, json.error?.reason, json.error?.param]
      .filter((part) => part !== null && part !== undefined)
      .join(" ");
  }

  /** Runs a D1 query and returns its rows. */
  async rows(sql: string, ...values: unknown[]): Promise<Record<string, unknown>[]> {
    const db = await this.runtime.mf.getD1Database("DB");
    const { results } = await db
      .prepare(sql)
      .bind(...values)
      .all();
    return results;
  }
}

/** Starts one front door for all tests of a file. `without` names secrets to leave out; `vars` adds variables. */
export function frontDoor({
  without = [],
  vars = {},
}: { without?: string[]; vars?: Record<string, string> } = {}): FrontDoor {
  const newFolder = temporaryFolders();
  const door = new FrontDoor();
  beforeAll(() => door.start(newFolder(), without, vars));
  afterAll(() => door.runtime.stop());
  return door;
}
