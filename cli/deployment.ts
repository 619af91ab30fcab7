/**
 * Finds which deployment a command talks to, and with which token: first flags, then environment variables, then the
 * dev.json of a running `npm start`. A token is only sent over https: or to this machine, and the token of dev.json
 * only to the URL in dev.json.
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { hasCode } from "../local/failure.ts";
import { isLoopback } from "../local/options.ts";
import { ROOT } from "../local/root.ts";
import { usageFailure } from "./failure.ts";

export interface Deployment {
  /** Without a trailing slash. */
  url: string;
  token: string | null;
  /** Where the token came from, for error messages; never the token itself. */
  tokenFrom: string;
}

export interface Flags {
  url?: string;
  token?: string;
}

/** The fields of dev.json that are used here. */
interface Dev {
  path: string;
  url: string;
  token: string;
}

type Variables = Record<string, string | undefined>;

export async function findDeployment(flags: Flags, env: Variables): Promise<Deployment> {
  const path = join(env["STATE_DIR"] ? resolve(env["STATE_DIR"]) : join(ROOT, ".portico"), "dev.json");
  return chooseDeployment(flags, env, await readDev(path));
}

export function chooseDeployment(flags: Flags, env: Variables, dev: Dev | null): Deployment {
  const [given, from] = [
    [flags.url, "--url"],
    [env["PORTICO_URL"], "PORTICO_URL"],
    [dev?.url, dev?.path ?? ""],
  ].find(([value]) => Boolean(value)) ?? [undefined, ""];
  if (given === undefined) {
    throw usageFailure("No deployment is named.", "Set PORTICO_URL and PORTICO_TOKEN, or start one here: npm start.");
  }
  const url = checkedUrl(given, from ?? "");
  const own = dev !== null && checkedUrl(dev.url, dev.path) === url ? dev.token : undefined;
  const [token = null, tokenFrom] = [
    [flags.token, "--token"],
    [env["PORTICO_TOKEN"], "PORTICO_TOKEN"],
    [own, dev?.path ?? ""],
  ].find(([value]) => Boolean(value)) ?? [null, ""];
  if (token !== null && !mayCarryToken(url)) {
    throw usageFailure(`A token is not sent over http: to ${new URL(url).host}.`, "Use https: there.");
  }
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) {
    throw usageFailure(`${tokenFrom} is not a token: it has spaces or other invalid characters.`);
  }
  return { url, token, tokenFrom: tokenFrom ?? "" };
}

function checkedUrl(text: string, from: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol))
    throw usageFailure(`${from} is not an http: or https: URL.`, "An example: https://gpu.example.com");
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "")
    throw usageFailure(`The address in ${from} may hold no credentials, query or fragment.`);
  return url.href.replace(/\/+$/, "");
}

function mayCarryToken(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === "https:" || isLoopback(hostname.replace(/^\[(.*)\]$/, "$1"));
}

async function readDev(path: string): Promise<Dev | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw usageFailure(`${path} cannot be read (${hasCode(error, "EACCES") ? "permission denied" : String(error)}).`);
  }
  try {
    const { url, admin_token: token }: { url?: unknown; admin_token?: unknown } = JSON.parse(text);
    if (typeof url === "string" && typeof token === "string") return { path, url, token };
  } catch {
    // Reported below, as is valid JSON with the wrong content.
  }
  throw usageFailure(`${path} is not what npm start writes.`, "Start again: npm start.");
}
