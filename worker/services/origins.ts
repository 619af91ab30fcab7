/** Which origins an operator may list: `https:` to public hosts; in local mode also `http://127.0.0.1:port`. Pure. */
import type { PlainKey } from "../details.ts";

/** Why the URL cannot be an origin, or null when it can. */
export function originProblem(text: string, local: boolean): PlainKey | null {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return "url";
  }
  if (url.username !== "" || url.password !== "") return "no_credentials";
  if (url.port === "0") return "no_port_0";
  // Even an empty one is refused: a path appended to it would become part of the query or fragment.
  if (/[?#]/.test(text)) return "no_query";
  if (/%2f|%5c|%2e|\/\//i.test(url.pathname)) return "plain_segments";
  if (local && url.protocol === "http:" && url.hostname === "127.0.0.1") return null;
  if (url.protocol !== "https:") return "https";
  return isPublicHost(url.hostname) ? null : "public_host";
}

/** Names that resolve inside private networks, by the special-use registries (RFC 6761, RFC 8375, RFC 9476). */
const PRIVATE_NAME =
  /(^|\.)(localhost|local|internal|intranet|lan|home|corp|private|home\.arpa|test|invalid|alt|onion|in-addr\.arpa|ip6\.arpa)\.?$/i;

/** Whether this is a dotted name that is not special-use, or an address outside the special registries (RFC 6890). */
export function isPublicHost(hostname: string): boolean {
  // WHATWG URL parsing has turned every spelling of an IPv4 address (hex, octal, a single number) into dotted decimals.
  const v4 = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(hostname);
  if (v4) return isPublicV4(Number(v4[1]), Number(v4[2]), Number(v4[3]));
  // IPv6 literals: only global unicast 2000::/3, except documentation ranges and tunnels that embed IPv4 addresses.
  if (hostname.startsWith("["))
    return /^\[[23][0-9a-f]{3}:/i.test(hostname) && !/^\[(2001:db8:|2002:|2001:0?:|3fff:)/i.test(hostname);
  return hostname.replace(/\.$/, "").includes(".") && !PRIVATE_NAME.test(hostname);
}

function isPublicV4(a: number, b: number, c: number): boolean {
  if (a === 0 || a === 10 || a === 127 || a >= 224) return false;
  if (a === 100 && b >= 64 && b < 128) return false;
  if (a === 169 && b === 254) return false;
  if (a === 172 && b >= 16 && b < 32) return false;
  if (a === 192 && b === 168) return false;
  if (a === 192 && b === 0 && (c === 0 || c === 2)) return false;
  if (a === 198 && (b === 18 || b === 19 || (b === 51 && c === 100))) return false;
  return !(a === 203 && b === 0 && c === 113);
}
