/**
 * HTTP client for a deployment. Every call has a timeout and every response a size limit. Redirects are not followed,
 * because the token is only for the host that was named. Nothing is retried, because a call whose answer was lost may
 * have been carried out.
 */
import type { Deployment } from "./deployment.ts";
import { Failure, refused, unreachable, usageFailure } from "./failure.ts";

/** From sending the request to the last byte of its answer. */
const CALL_MS_MAX = 60_000;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const PAGE_LENGTH = 200;

type Method = "GET" | "PUT" | "POST" | "PATCH" | "DELETE";

export interface List<Row> {
  data: Row[];
  /** Null: there are no more rows. */
  next_cursor: string | null;
}

interface Sent {
  method: Method;
  path: string;
  body?: unknown;
  accept?: string;
  /** The call needs no operator's token. */
  open?: boolean;
}

interface Heard {
  status: number;
  text: string;
  headers: Headers;
}

export class Api {
  readonly #deployment: Deployment;
  readonly #callMsMax: number;

  constructor(deployment: Deployment, callMsMax = CALL_MS_MAX) {
    this.#deployment = deployment;
    this.#callMsMax = callMsMax;
  }

  get hasToken(): boolean {
    return this.#deployment.token !== null;
  }

  /** `path` is below /admin/v1. */
  async call<T>(method: Exclude<Method, "DELETE">, path: string, body?: unknown): Promise<T> {
    const { status, text } = await this.#send({ method, path: `/admin/v1${path}`, body });
    return parsed(text, status) as T;
  }

  /** Returns the status: 204 deleted, 202 not everything has been deleted yet. */
  async delete(path: string): Promise<number> {
    const { status } = await this.#send({ method: "DELETE", path: `/admin/v1${path}` });
    return status;
  }

  /** Calls a public endpoint, without a token. */
  async open<T>(path: string): Promise<T> {
    const { status, text } = await this.#send({ method: "GET", path, open: true });
    return parsed(text, status) as T;
  }

  /** Returns up to `rowsMax` rows of a list, page by page, with the other fields of the first page. */
  async all<L extends List<unknown>>(path: string, rowsMax: number, query: Query = {}): Promise<L> {
    const list: L = await this.#page(path, rowsMax, query);
    while (list.next_cursor !== null && list.data.length < rowsMax) {
      const page: L = await this.#page(path, rowsMax - list.data.length, { ...query, cursor: list.next_cursor });
      list.data.push(...page.data);
      // An empty page would make no progress: stop here.
      list.next_cursor = page.data.length === 0 ? null : page.next_cursor;
    }
    return list;
  }

  async #page<L extends List<unknown>>(path: string, rowsMax: number, query: Query): Promise<L> {
    const page: L = await this.call("GET", withQuery(path, { ...query, limit: Math.min(PAGE_LENGTH, rowsMax) }));
    if (!Array.isArray(page?.data)) throw new Failure(`The answer to ${path} is no list.`, "Check the address.");
    return { ...page, next_cursor: page.next_cursor ?? null };
  }

  /** Returns a list as the deployment's CSV, up to `rowsMax` rows. `more`: there are further rows. */
  async csv(path: string, rowsMax: number, query: Query): Promise<{ text: string; more: boolean }> {
    const lines: string[] = [];
    let cursor: string | null = null;
    do {
      const limit = Math.min(PAGE_LENGTH, rowsMax - Math.max(0, lines.length - 1));
      const target = `/admin/v1${withQuery(path, { ...query, limit, cursor })}`;
      const { text, headers } = await this.#send({ method: "GET", path: target, accept: "text/csv" });
      if (!headers.get("content-type")?.startsWith("text/csv"))
        throw new Failure(`The answer to ${path} is no CSV.`, "The deployment may be older than this folder.");
      const page = text.split("\r\n").filter((line) => line !== "");
      // Every page begins with the column headings.
      lines.push(...(lines.length === 0 ? page : page.slice(1)));
      cursor = page.length > 1 ? nextCursor(headers.get("link")) : null;
    } while (cursor !== null && lines.length - 1 < rowsMax);
    return { text: lines.map((line) => `${line}\r\n`).join(""), more: cursor !== null };
  }

  async #send({ method, path, body, accept = "application/json", open = false }: Sent): Promise<Heard> {
    const { url, token, tokenFrom } = this.#deployment;
    if (token === null && !open) throw usageFailure(`No operator's token for ${url} is given.`, "Set PORTICO_TOKEN.");
    let heard: Heard;
    try {
      const answer = await fetch(url + path, {
        method,
        headers: {
          accept,
          ...(open ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        redirect: "manual",
        signal: AbortSignal.timeout(this.#callMsMax),
      });
      heard = { status: answer.status, text: await textOf(answer), headers: answer.headers };
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw unreachable(error, url, this.#callMsMax / 1000, method !== "GET");
    }
    const { status, text, headers } = heard;
    if (status >= 300 && status < 400)
      throw new Failure(`${url} answers with a redirect, which is not followed.`, "Use the address where it ends.");
    if (status >= 400) throw refused(status, text, headers.get("retry-after"), tokenFrom);
    return heard;
  }
}

export type Query = Record<string, string | number | null | undefined>;

function withQuery(path: string, query: Query): string {
  const given = Object.entries(query).flatMap(([name, value]) => (value == null ? [] : [[name, String(value)]]));
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}

/** Returns the cursor in `<?...&cursor=C>; rel="next"` (RFC 8288). */
function nextCursor(link: string | null): string | null {
  const query = /<[^>]*\?([^>]*)>\s*;\s*rel="?next"?/.exec(link ?? "")?.[1];
  return query === undefined ? null : new URLSearchParams(query).get("cursor");
}

async function textOf(answer: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > ANSWER_BYTES_MAX)
      throw new Failure(
        `The answer is longer than ${ANSWER_BYTES_MAX / 1024 / 1024} MiB.`,
        "Ask for fewer rows: --rows.",
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refused(status, text, null, "");
  }
}
