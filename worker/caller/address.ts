/** Client addresses for the per-address limit. Pure except for WebCrypto. */
import { hmac } from "./keys.ts";

/** Bytes of the hash that are kept: enough to tell all addresses of a service apart. */
const HASH_BYTES = 16;

/** Hashes the client that an address belongs to. Objects store the hash with leases and never need the address. */
export async function keyedAddress(keySecret: string, address: string): Promise<string> {
  return (await hmac(keySecret, "client-address", clientOf(address))).slice(0, HASH_BYTES).toHex();
}

/** An IPv4 address as it is, or the /64 of an IPv6 address, the smallest block given to one client (RFC 6177). */
export function clientOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const groups = head.split(":").filter((group) => group !== "");
  const after = (tail ?? "").split(":").filter((group) => group !== "");
  const missing = tail === undefined ? 0 : Math.max(0, 8 - groups.length - after.length);
  const all = [...groups, ...Array.from({ length: missing }, () => "0"), ...after];
  return all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":");
}
