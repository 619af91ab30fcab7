/** Parses the paths of fal's calls, and the targets of proxied calls. Pure. */
import { invalid, type Refusal } from "../../refusal.ts";

/** `owner/name/path` as clients write it. Served apps are `portico/<service>`. */
export interface App {
  owner: string;
  name: string;
  /** Below the service's route; empty: the service's default task. */
  path: string;
}

export type Call =
  | { kind: "run" | "submit"; app: App }
  | { kind: "status" | "stream" | "result" | "cancel"; app: App; id: string }
  | { kind: "file"; id: string }
  | { kind: "proxy" }
  | { kind: "initiate" | "multipart" | "jwks" };

/** Allowed methods of each call. */
export const METHODS: Record<Call["kind"], string[]> = {
  run: ["POST"],
  submit: ["POST"],
  status: ["GET", "HEAD"],
  stream: ["GET", "HEAD"],
  result: ["GET", "HEAD"],
  cancel: ["PUT"],
  initiate: ["POST"],
  multipart: ["POST"],
  file: ["GET", "HEAD", "PUT"],
  proxy: ["GET", "POST", "PUT"],
  jwks: ["GET", "HEAD"],
};

/** App ids with these prefixes have one segment more. */
const NAMESPACES = new Set(["workflows", "comfy"]);

const FIXED: Record<string, Exclude<Call, { app: App } | { id: string }>["kind"]> = {
  "/fal/proxy": "proxy",
  "/fal/rest/storage/upload/initiate": "initiate",
  "/fal/rest/storage/upload/initiate-multipart": "multipart",
  "/fal/.well-known/jwks.json": "jwks",
};

/** Returns null if the path is not a call. */
export function parseCall(path: string): Call | null {
  const fixed = Object.hasOwn(FIXED, path) ? FIXED[path] : undefined;
  if (fixed !== undefined) return { kind: fixed };
  const [, dialect, context, ...named] = path.split("/");
  if (dialect !== "fal") return null;
  if (context === "files") return named.length === 1 ? { kind: "file", id: named[0] ?? "" } : null;
  const [owner, name, ...below] = NAMESPACES.has(named[0] ?? "") ? named.slice(1) : named;
  if (owner === undefined || name === undefined || name === "") return null;
  const app = { owner, name, path: below.join("/") };
  if (context === "run") return { kind: "run", app };
  if (context !== "queue") return null;
  return below[0] === "requests" && below.length > 1 ? requestCall(app, below.slice(1)) : { kind: "submit", app };
}

const OF_REQUEST: Record<string, "status" | "stream" | "result" | "cancel"> = {
  "": "result",
  response: "result",
  status: "status",
  "status/stream": "stream",
  cancel: "cancel",
};

function requestCall(app: App, [id = "", ...tail]: string[]): Call | null {
  const name = tail.join("/");
  const kind = Object.hasOwn(OF_REQUEST, name) ? OF_REQUEST[name] : undefined;
  return kind === undefined ? null : { kind, app: { ...app, path: "" }, id };
}

export const TARGET_HEADER = "x-fal-target-url";
const PREFIXES: Record<string, string> = {
  "fal.run": "/fal/run",
  "queue.fal.run": "/fal/queue",
  "rest.fal.ai": "/fal/rest",
};
/** Matched as text: whatever two URL parsers could read differently is not accepted. */
const TARGET = /^https:\/\/(fal\.run|queue\.fal\.run|rest\.fal\.ai)(\/[^#]*)$/;

/** Maps the target URL of a proxied call to our own path and query. The URL itself is never fetched. */
export function pathOfTarget(targetUrl: string | null): string | Refusal {
  if (targetUrl === null) return invalid(TARGET_HEADER, "required");
  const [, host = "", rest = ""] = TARGET.exec(targetUrl) ?? [];
  const context = PREFIXES[host];
  if (context === undefined) return invalid(TARGET_HEADER, "fal_target", { hosts: Object.keys(PREFIXES).join(", ") });
  return context + rest;
}
