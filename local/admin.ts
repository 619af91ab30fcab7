/** Client of the admin API for local mode. Throws a RefusedError with the API's own message. */
const CALL_MS_MAX = 30_000;
const PAGE_LENGTH = 1000;
/** More pages than local mode can have created. */
const PAGES_MAX = 100;

export class RefusedError extends Error {
  readonly status: number;
  readonly reason: string | null;

  constructor(call: string, status: number, text: string) {
    const error = errorIn(text);
    super(`${call}: ${status} ${error?.reason ?? error?.code ?? ""} ${error?.message ?? text.slice(0, 300)}`);
    this.status = status;
    this.reason = error?.reason ?? null;
  }
}

export class Admin {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** `path` is below /admin/v1. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await fetch(`${this.#url}/admin/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_MS_MAX),
    });
    const text = await answer.text();
    if (!answer.ok) throw new RefusedError(`${method} /admin/v1${path}`, answer.status, text);
    const value: T = JSON.parse(text === "" ? "null" : text);
    return value;
  }

  /** Returns every row of a list. */
  async all<T>(path: string): Promise<T[]> {
    const rows: T[] = [];
    let cursor: string | null = null;
    for (let pages = 0; pages < PAGES_MAX; pages++) {
      const query: string = `limit=${PAGE_LENGTH}${cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`}`;
      const page: { data: T[]; next_cursor: string | null } = await this.call("GET", `${path}?${query}`);
      rows.push(...page.data);
      cursor = page.next_cursor;
      if (cursor === null) return rows;
    }
    throw new Error(`GET /admin/v1${path}: more than ${PAGES_MAX} pages`);
  }
}

interface WireError {
  code?: string;
  reason?: string;
  message?: string;
}

function errorIn(text: string): WireError | null {
  try {
    const { error }: { error?: WireError } = JSON.parse(text);
    return error ?? null;
  } catch {
    return null;
  }
}
