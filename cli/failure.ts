/** An expected failure of a command: one line for people, with what to do next. */
import { clean } from "./table.ts";

/** 1: refused or failed. 2: the command line cannot be used, and nothing was changed. */
export type ExitCode = 1 | 2;

/** Longest part of the deployment's own message that is shown. */
const SAID_LENGTH_MAX = 1000;

export class Failure extends Error {
  readonly next: string | null;
  readonly exitCode: ExitCode;
  /** The answer's status; null when there was no answer. */
  readonly status: number | null;

  constructor(message: string, next: string | null = null, exitCode: ExitCode = 1, status: number | null = null) {
    super(message);
    this.next = next;
    this.exitCode = exitCode;
    this.status = status;
  }

  get line(): string {
    return this.next === null ? this.message : `${this.message} ${this.next}`;
  }
}

/** A command line that cannot be used; nothing was changed. */
export function usageFailure(message: string, next: string | null = null): Failure {
  return new Failure(message, next, 2);
}

interface WireError {
  code?: string;
  reason?: string | null;
  message?: string;
  param?: string | null;
  request_id?: string;
}

/** Makes a Failure of an error response: the API's message, then the reason, the field and the request id. */
export function refused(status: number, text: string, retryAfter: string | null, tokenFrom: string): Failure {
  const error = errorIn(text);
  if (error?.message === undefined) {
    const what = `The server answered ${status}, but not in Portico's format: ${clean(text.slice(0, 80)) || "empty"}.`;
    return new Failure(what, "Check the address (PORTICO_URL or --url).", 1, status);
  }
  const facts = [error.reason ?? error.code, error.param && `field ${error.param}`, `request ${error.request_id}`];
  const said = error.message.replace(/\.$/, "").slice(0, SAID_LENGTH_MAX);
  const message = `${said} (${facts.filter(Boolean).join(", ")}).`;
  return new Failure(clean(message), nextAfter(status, retryAfter, tokenFrom), 1, status);
}

function nextAfter(status: number, retryAfter: string | null, tokenFrom: string): string | null {
  if (status === 400) return "Run the command with --help to see what it accepts.";
  if (status === 401) return `Check the token, which came from ${tokenFrom}.`;
  if (status === 403) return "Ask an operator with that role to do it, or to give you the role.";
  if (status === 404) return "The same command's `list` shows what exists. An older deployment may not have this call.";
  if (status === 409) return "Somebody else changed it just now; look at it and try again.";
  if (retryAfter !== null) return `Try again in ${clean(retryAfter)} s.`;
  return status >= 500 ? "Try again; the deployment's log has more under that request." : null;
}

function errorIn(text: string): WireError | null {
  try {
    const body: { error?: WireError } | null = JSON.parse(text);
    return typeof body?.error?.message === "string" ? body.error : null;
  } catch {
    return null;
  }
}

/** Makes a Failure of a call that got no answer. `wrote`: the call may have been carried out. */
export function unreachable(error: unknown, url: string, secondsMax: number, wrote: boolean): Failure {
  const { host, hostname } = new URL(url);
  const code = codeOf(error);
  const look = wrote ? "It may have been done; look before you repeat it." : null;
  const start = "Is it running? Locally: npm start.";
  if (code === "ECONNREFUSED") return new Failure(`Nothing answers at ${host}: the connection was refused.`, start);
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return new Failure(`There is no host ${hostname}, or no network (${code}).`, "Check the address and the network.");
  if (code === "TimeoutError") return new Failure(`${host} did not answer within ${secondsMax} s.`, look);
  if (code.includes("CERT") || code.includes("TLS") || code.includes("SSL"))
    return new Failure(`${host} has no valid TLS certificate (${code}).`, "Nothing was sent; check the address.");
  return new Failure(`The connection to ${host} broke (${code}).`, look ?? "Try again.");
}

/** Node's fetch puts the system error into `cause`, sometimes nested. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if (error.name === "TimeoutError") return error.name;
  if ("code" in error && typeof error.code === "string") return error.code;
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  return error.cause === undefined ? error.message : codeOf(error.cause);
}
