/** The part of Node's API that the Worker uses; the runtime's own types do not declare it. */
declare module "node:zlib" {
  /** `value`: the CRC-32 of the bytes before `data`. */
  export function crc32(data: Uint8Array, value?: number): number;
}
