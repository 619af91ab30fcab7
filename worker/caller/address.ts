/** Client addresses as limits count them. Pure but for WebCrypto. */
import { hmac } from "./keys.ts";

/** Bytes of the hash that are kept: as many as keep all addresses of a service apart. */
const HASH_BYTES = 16;

/** A hash of what counts as one client: objects keep it with their leases, and have no need of the address itself. */
export async function keyedAddress(keySecret: string, address: string): Promise<string> {
  return (await hmac(keySecret, "client-address", clientOf(address))).slice(0, HASH_BYTES).toHex();
}

/** An IPv4 address; of IPv6 the /64, which is the least that one client is given (RFC 6177). */
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
