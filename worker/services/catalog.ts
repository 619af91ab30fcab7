/** The configured services, cached per isolate for a few seconds, and the mapping from paths to services. */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { allServices, type ServiceRow } from "../db/queries.ts";
import type { Env } from "../env.ts";
import { notAllowed, type Refusal, refuse } from "../refusal.ts";

/** How long an isolate uses its list of services. */
const CATALOG_MS = 5_000;

let remembered: { services: ServiceRow[]; at: number } | undefined;

/** Clears the cached list. The admin API calls it after a change. */
export function forgetCatalog(): void {
  remembered = undefined;
}

/** All services, the longest route first. */
export async function catalog(env: Env): Promise<ServiceRow[]> {
  const now = Date.now();
  if (remembered !== undefined && now - remembered.at < CATALOG_MS && now >= remembered.at) return remembered.services;
  const services = (await withTimeout(allServices(env))).toSorted((a, b) => b.route.length - a.route.length);
  remembered = { services, at: now };
  return services;
}

/** A request's normalized path, and its query as received (with `?`, or empty). */
export interface Target {
  path: string;
  query: string;
}

/**
 * Normalizes the path for matching services and for sending to origins: escapes of unreserved characters are decoded,
 * all others are upper-cased (RFC 3986 6.2.2). Refuses paths that two parsers could read differently.
 */
export function target(url: string): Target | Refusal {
  const [, rest = ""] = /^[a-z]+:\/\/[^/?#]*([^#]*)/i.exec(url) ?? [];
  const mark = rest.indexOf("?");
  const path = (mark < 0 ? rest : rest.slice(0, mark)) || "/";
  const query = mark < 0 ? "" : rest.slice(mark);
  // oxlint-disable-next-line no-control-regex -- matches control characters on purpose
  if (/\/\/|\\|%2f|%5c|%2e|%[01]|%7f|%(?![0-9a-f]{2})|[\x00-\x20\x7f]/i.test(path)) return refuse("bad_path");
  if (/(^|\/)\.\.?(\/|$)/.test(path)) return refuse("bad_path");
  const normal = path.replace(/%[0-9a-f]{2}/gi, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    return /[A-Za-z0-9_~-]/.test(character) ? character : escape.toUpperCase();
  });
  return { path: normal, query };
}

/** The service with the longest route that contains the path. */
export function serviceOf(services: ServiceRow[], path: string): ServiceRow | null {
  return services.find((service) => path.startsWith(service.route)) ?? null;
}

export type Listed = { as: "run" | "read" } | Refusal;

/**
 * Whether the service lists this path below its route for this method. HEAD is treated as GET. Paths are compared fully
 * decoded, as origins do; otherwise `a%21b` would bypass an entry for `a!b`.
 */
export function listed(service: Pick<ServiceRow, "route" | "config">, method: string, path: string): Listed {
  const below = unescaped(path.slice(service.route.length));
  const entries = service.config.paths.filter((entry) => matches(entry.path, below));
  const entry =
    entries.find((e) => e.method === method) ??
    entries.find((e) => e.method === "*") ??
    (method === "HEAD" ? entries.find((e) => e.method === "GET") : undefined);
  if (entry !== undefined) return { as: entry.as };
  if (entries.length === 0) return refuse("not_found");
  return notAllowed(method, [...new Set(entries.map((e) => e.method))].join(", "));
}

/** Decodes UTF-8 sequences first, then ASCII, so that nothing is decoded twice; invalid UTF-8 is left as it is. */
function unescaped(path: string): string {
  const characters = path.replace(/(?:%[89a-f][0-9a-f])+/gi, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run;
    }
  });
  return characters.replace(/%[2-7][0-9a-f]/gi, decodeURIComponent);
}

function matches(pattern: string, below: string): boolean {
  return pattern.endsWith("*") ? below.startsWith(pattern.slice(0, -1)) : below === pattern;
}
