/** The official client, unmodified, pointed at the front door of a test. */
import OpenAI, { type ClientOptions } from "openai";
import type { Doorway } from "../contract/doorway.ts";

/** Small, so that drawing takes almost no time. */
export const SMALL = { size: "64x64", steps: 1 } as const;

export function openai(door: Doorway, options: ClientOptions = {}): OpenAI {
  return new OpenAI({ apiKey: door.ownKey, baseURL: `${door.portico.url}/v1`, maxRetries: 0, ...options });
}

/** Width and height of a PNG. */
export function sizeOf(png: Buffer): { width: number; height: number } {
  return { width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
}

/** The error that a call was refused with. */
export async function refused(call: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await call;
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

/** Adds fields that the client's types do not know. */
export function more<T extends object>(fields: T, own: Record<string, unknown>): T {
  return { ...fields, ...own };
}
