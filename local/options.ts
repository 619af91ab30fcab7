/** Parses the arguments of `npm start` and PORT, HOST, STATE_DIR. Pure. Throws a UsageError. */
import { resolve } from "node:path";

export interface Options {
  host: string;
  port: number;
  stateDir: string;
  /** Start and list simulated cards. */
  cards: boolean;
  /** Wipe local state first. */
  fresh: boolean;
}

/** An argument or variable that cannot be used; the message says which values can. */
export class UsageError extends Error {}

const PORT_MAX = 65_535;
const USAGE = `npm start [-- OPTIONS]
  --no-sim   start no simulated cards, disable those of an earlier start, create no services, tenants or keys
  --fresh    wipe local state first
  --help     this text
PORT (8787) and HOST (127.0.0.1) set the address, STATE_DIR (.portico) the state folder. PUBLIC_URL: the address in signed URLs.`;

/** Null: help was requested; the caller shows `usage`. */
export function readOptions(args: string[], env: Record<string, string | undefined>): Options | null {
  if (args.includes("--help") || args.includes("-h")) return null;
  const unknown = args.find((arg) => arg !== "--no-sim" && arg !== "--fresh");
  if (unknown !== undefined) throw new UsageError(`Unknown option ${unknown}.\n${USAGE}`);
  return {
    host: readHost(env.HOST),
    port: readPort(env.PORT),
    stateDir: resolve(env.STATE_DIR || ".portico"),
    cards: !args.includes("--no-sim"),
    fresh: args.includes("--fresh"),
  };
}

export function usage(): string {
  return USAGE;
}

function readPort(text: string | undefined): number {
  if (text === undefined || text === "") return 8787;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port >= 1 && port <= PORT_MAX) return port;
  throw new UsageError(`PORT=${text} is not a port; choose one from 1 to ${PORT_MAX}.`);
}

function readHost(text: string | undefined): string {
  const host = text?.replace(/^\[(.*)\]$/, "$1") || "127.0.0.1";
  if (/^[A-Za-z0-9.:_-]{1,253}$/.test(host)) return host;
  throw new UsageError(`HOST=${text} is neither a name nor an address.`);
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** The URL at which a caller on this machine reaches a server that listens on `host`. */
export function urlOf(host: string, port: number): string {
  const name = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${port}`;
}
